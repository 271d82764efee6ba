"""What a copy is (topics v0 §16.3, §16.5, §16.7). Pure: from a record as the source has it to one as the destination gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from apps.topics.appending.batch import MAX_META_KEYS, Record, compact_length

# §4.1: a record that came through so many routers goes no further.
MAX_HOPS = 8

STAMP = "_topics_router"
ORIGINAL = "_topics_original_meta"

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where, and what is left out on the way."""

    router: str
    source: str
    source_id: int
    source_epoch: int
    dest_id: int
    preserve_node: bool
    preserve_tag: bool
    # exactly_once: copies tell where they come from.
    stamps: bool


@dataclass(frozen=True, slots=True)
class Original:
    """A record of the source: columns as they are stored."""

    seq: int
    size: int
    kind: int
    trail: str | None
    tag: str | None
    node: str | None
    data: str
    meta: str | None


def copy_of(original: Original, route: Route) -> Record | None:
    """Return the copy of a record; None for one that has come to the end of its way.

    That is one which has passed MAX_HOPS routers, or has been in the destination before (★29).
    """
    trail = f"{original.trail} {route.source_id}" if original.trail else f"{route.source_id}"
    visited = trail.split()
    if len(visited) > MAX_HOPS or str(route.dest_id) in visited:
        return None
    meta = None if original.meta is None else original.meta.encode()
    size = original.size
    if route.stamps:
        stamped = _stamped(meta, original.seq, route)
        size += len(stamped) - (0 if meta is None else compact_length(meta))
        meta = stamped
    return Record(
        data=original.data.encode(),
        size=size,
        tag=_bytes(original.tag) if route.preserve_tag else None,
        node=_bytes(original.node) if route.preserve_node else None,
        meta=meta,
        kind=original.kind,
        trail=trail.encode(),
    )


def _stamped(meta: bytes | None, seq: int, route: Route) -> bytes:
    """Return compact meta that tells where a copy comes from; it may be larger than a client's may (★27)."""
    stamp = msgspec.json.encode(
        {
            "idempotency_key": f"router:{route.router}:{route.source_id}:{route.source_epoch}:{seq}",
            "router": route.router,
            "source_topic": route.source,
            "source_topic_id": route.source_id,
            "source_epoch": route.source_epoch,
            "source_seq": seq,
        }
    )
    members: dict[str, Any] = {}
    if meta is not None:
        compact = msgspec.json.format(meta, indent=-1)
        members = {ORIGINAL: msgspec.Raw(compact)}
        if compact.startswith(b"{"):
            found = _members.decode(compact)
            if len(found) < MAX_META_KEYS or STAMP in found:
                members = found
    return msgspec.json.encode({**members, STAMP: msgspec.Raw(stamp)})


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
