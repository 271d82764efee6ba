"""A message of a topic as an execution sees it (pipelines-storage.md §2). Pure but for the log's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.topics.queries import Stored

JSON = Any
_encode = msgspec.json.encode

# How many executions led to a message, one by a message of the other, in the meta of what their steps publish.
HOPS = "gyoza_hops"
MOST_HOPS = 16


def text_of(topic: str, record: Stored) -> str:
    """Write a record as `trigger`, with the client's own text where it is his."""
    members: dict[str, JSON] = {
        "type": "event",
        "topic": topic,
        "seq": record.seq,
        "ts": record.ts,
        "node": record.node,
        "tag": record.tag,
        "meta": None if record.meta is None else msgspec.Raw(record.meta.encode()),
        "data": msgspec.Raw(record.data.encode()),
        "attempt": 1,
    }
    return _encode(members).decode()


def batch_text(texts: Sequence[str]) -> str:
    """Write several messages as one `trigger`: the last one's members, and all of them as `messages`."""
    last: dict[str, JSON] = msgspec.json.decode(texts[-1], type=dict[str, msgspec.Raw])
    last["messages"] = [msgspec.Raw(text.encode()) for text in texts]
    return _encode(last).decode()


def each_of(text: str) -> list[dict[str, JSON]]:
    """Return the messages of a `trigger`, one or several."""
    whole = msgspec.json.decode(text)
    found: list[dict[str, JSON]] = whole.get("messages") or [whole]
    return found


def can_be_read(text: str) -> bool:
    """Say whether the messages of a `trigger` can be told apart: one may be why nothing could be done with it."""
    try:
        each_of(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def hops_of(message: dict[str, JSON]) -> int:
    """Return how many executions led to a message."""
    meta = message.get("meta")
    hops = meta.get(HOPS) if isinstance(meta, dict) else None
    return hops if isinstance(hops, int) and not isinstance(hops, bool) and hops > 0 else 0
