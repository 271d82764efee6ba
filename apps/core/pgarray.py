"""Postgres arrays in the binary wire format, for parameters of thousands of elements.

psycopg's own list adapters cost a microsecond per element and, in text format, a parser on the other side. These are
joined from bytes that are already there. Importing this module registers them with psycopg.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, ClassVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

_NULL = b"\xff\xff\xff\xff"
_LOWER_BOUND = 1


class _Array:
    """An encoded one-dimensional array."""

    __slots__ = ("wire",)
    oid: ClassVar[int]

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class ByteaArray(_Array):
    """bytea[]"""

    oid = 1001


class TextArray(_Array):
    """text[]"""

    oid = 1009


class SmallintArray(_Array):
    """smallint[]"""

    oid = 1005


class IntArray(_Array):
    """int[]"""

    oid = 1007


class BigintArray(_Array):
    """bigint[]"""

    oid = 1016


def byteas(items: Sequence[bytes | None]) -> ByteaArray:
    """Encode bytes and nulls."""
    return ByteaArray(_variable(items, 17))


def texts(items: Sequence[bytes | None]) -> TextArray:
    """Encode texts and nulls; the texts are UTF-8 already and hold no U+0000."""
    return TextArray(_variable(items, 25))


def smallints(items: Sequence[int]) -> SmallintArray:
    """Encode integers of 16 bits."""
    return SmallintArray(_fixed(items, 21, "h"))


def ints(items: Sequence[int]) -> IntArray:
    """Encode integers of 32 bits."""
    return IntArray(_fixed(items, 23, "i"))


def bigints(items: Sequence[int]) -> BigintArray:
    """Encode integers of 64 bits."""
    return BigintArray(_fixed(items, 20, "q"))


def _header(count: int, element_oid: int, *, has_null: bool) -> bytes:
    dimensions = 1 if count else 0
    head = pack(">iiI", dimensions, has_null, element_oid)
    return head + pack(">ii", count, _LOWER_BOUND) if count else head


def _variable(items: Sequence[bytes | None], element_oid: int) -> bytes:
    parts = [_header(len(items), element_oid, has_null=None in items)]
    add = parts.append
    for item in items:
        if item is None:
            add(_NULL)
        else:
            add(len(item).to_bytes(4, "big"))
            add(item)
    return b"".join(parts)


def _fixed(items: Sequence[int], element_oid: int, code: str) -> bytes:
    width = {"h": 2, "i": 4, "q": 8}[code]
    flat = [width] * (2 * len(items))
    flat[1::2] = items
    return _header(len(items), element_oid, has_null=False) + pack(
        ">" + f"i{code}" * len(items), *flat
    )


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Array) -> bytes:
        return obj.wire


def _dumper(kind: type[_Array]) -> type[Dumper]:
    return type(f"{kind.__name__}Dumper", (_ArrayDumper,), {"oid": kind.oid})


for _kind in (ByteaArray, TextArray, SmallintArray, IntArray, BigintArray):
    psycopg.adapters.register_dumper(_kind, _dumper(_kind))
