"""Keyset pages: `{data, has_more}`, and opaque cursors for those who need more than an id."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from apps.core.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Key = TypeVar("Key")


def encode_cursor(key: Any) -> str:
    """Write the sort key of the last row seen as an opaque string that survives in a query string unescaped."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str, kind: type[Key], *, parameter: str = "cursor") -> Key:
    """Read a cursor back into a key of the given type; raises Invalid for one we did not write."""
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        return msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=kind)
    except (binascii.Error, msgspec.MsgspecError, ValueError) as exc:
        complaint = (parameter, "is not a cursor of this list")
        raise Invalid.of([complaint], where="query") from exc


def cut(rows: Sequence[T], limit: int) -> tuple[list[T], bool]:
    """Split what a query with LIMIT `limit` + 1 found into the page and whether there is more."""
    return list(rows[:limit]), len(rows) > limit
