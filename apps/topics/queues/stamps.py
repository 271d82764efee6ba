"""The stamps of a dead letter: members of its meta that tell where it comes from (topics v0 §18.7). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

# All values are strings.
FROM, DELIVERIES, SRC_SEQ = "$dead_letter_from", "$dead_letter_deliveries", "$dead_letter_src_seq"
_STAMPS = frozenset({FROM, DELIVERIES, SRC_SEQ})

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def add(meta: str | None, *, queue: str, deliveries: int, seq: int) -> bytes:
    """Stamp a record's meta, whose own members keep their spelling; one that is no object is replaced."""
    members: dict[str, Any] = {}
    if meta is not None and meta.lstrip().startswith("{"):
        members.update(_members.decode(meta))
    members |= {FROM: queue, DELIVERIES: str(deliveries), SRC_SEQ: str(seq)}
    return msgspec.json.encode(members)


def remove(meta: str | None) -> tuple[dict[str, str], bytes | None]:
    """Return the stamps in a meta, and the meta without them; None if nothing else was in it."""
    if meta is None or not meta.lstrip().startswith("{"):
        return {}, None if meta is None else meta.encode()
    members = _members.decode(meta)
    found: dict[str, str] = {}
    for name in _STAMPS & members.keys():
        value = msgspec.json.decode(members.pop(name))
        if isinstance(value, str):
            found[name] = value
    return found, msgspec.json.encode(members) if members else None


def text_of(queue: str) -> str:
    """Return how the stamp of a queue reads in a stored meta."""
    return msgspec.json.encode({FROM: queue})[1:-1].decode()
