"""Records on their way into the log: what a writer hands over, and the parameters of `append_records.sql`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from apps.core import pgarray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# topics v0 §4.1: members of `meta`, if it is an object.
MAX_META_KEYS = 64

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it is stored, in UTF-8: `data` and `meta` are JSON text, `tag` and `node` escaped.

    `trail` is of copies that a router makes.
    """

    data: bytes
    size: int
    tag: bytes | None = None
    node: bytes | None = None
    meta: bytes | None = None
    kind: int = 0
    trail: bytes | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a topic's batch has landed."""

    topic_id: int
    name: str
    first_seq: int
    head: int
    ts: int
    has_listeners: bool
    has_cap: bool
    durable: bool


def is_compact(text: bytes) -> bool:
    """Say whether there are no blanks at all in JSON text: then every part of it is as long as it is."""
    return b" " not in text and b"\n" not in text and b"\r" not in text and b"\t" not in text


def compact_length(text: bytes) -> int:
    """Return the length of JSON text without the blanks between its tokens (topics v0 §7.4)."""
    return len(text) if is_compact(text) else len(msgspec.json.format(text, indent=-1))


def escape(text: str) -> bytes:
    """Spell text as inside a JSON string, which is how tags and nodes are stored."""
    return msgspec.json.encode(text)[1:-1]


def unescape(stored: str) -> str:
    """Return the text of a stored tag or node."""
    return msgspec.json.decode(f'"{stored}"', type=str)


def append_params(
    batches: Mapping[str, Sequence[Record]], *, now: int, roomy_only: bool, relaxed: bool
) -> dict[str, Any]:
    """Build the parameters of `append_records` for batches by topic, each in the order of its records."""
    records = [record for batch in batches.values() for record in batch]
    places: list[int] = []
    if len(batches) > 1:
        for place, batch in enumerate(batches.values(), 1):
            places += [place] * len(batch)
    return {
        "names": pgarray.texts([name.encode() for name in batches]),
        "counts": pgarray.ints([len(batch) for batch in batches.values()]),
        "sizes": pgarray.bigints([sum([r.size for r in batch]) for batch in batches.values()]),
        "largests": pgarray.ints([max([r.size for r in batch]) for batch in batches.values()]),
        "places": pgarray.ints(places),
        "totals": pgarray.bigints(list(accumulate([r.size for r in records]))),
        "datas": pgarray.texts([r.data for r in records]),
        "kinds": pgarray.smallints(_unless_default([r.kind for r in records])),
        "trails": pgarray.texts(_unless_default([r.trail for r in records])),
        "tags": pgarray.texts(_unless_default([r.tag for r in records])),
        "nodes": pgarray.texts(_unless_default([r.node for r in records])),
        "metas": pgarray.texts(_unless_default([r.meta for r in records])),
        "now": now,
        "roomy_only": roomy_only,
        "relaxed": relaxed,
    }


def _unless_default(column: list[T]) -> list[T]:
    # What is the same in every record needn't be sent. An empty text is false, but no null.
    return column if any(column) or b"" in column else []


def placed(rows: Iterable[dict[str, Any]]) -> dict[str, Placed]:
    """Read the answer of `append_records`, by topic."""
    return {
        row["name"]: Placed(
            topic_id=row["id"],
            name=row["name"],
            first_seq=row["first_seq"],
            head=row["head"],
            ts=row["ts"],
            has_listeners=row["has_listeners"],
            has_cap=row["has_cap"],
            durable=row["durable"],
        )
        for row in rows
    }


def waited_for_disk(rows: Iterable[dict[str, Any]]) -> bool:
    """Read from the answer of `append_records` whether its commit waits for the disk."""
    return any(row["commits"] is None for row in rows)
