"""What requests to follow topics have in common, be it by a session or on a socket (topics v0 §17.1, §19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core.errors import Forbidden, Invalid
from apps.topics import predicates
from apps.topics.api.reads import DIFF_BYTES, DIFF_BYTES_MAX, DIFF_LIMIT, DIFF_LIMIT_MAX
from apps.topics.appending.writes import MAX_NODE_BYTES, MAX_TAG_BYTES
from apps.topics.queries import MAX_SEQ
from apps.topics.watch.positions import MAX_TOPICS, Position
from apps.topics.watch.readings import Selection

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from apps.access.auth import Caller
    from apps.topics.api.bodies import SelectionBody, WatchedBody
    from apps.topics.watch.sessions import Found


def require_few(names: Collection[str]) -> None:
    """Raise Invalid for more topics than one connection may follow."""
    if len(names) > MAX_TOPICS:
        raise Invalid(f"more than {MAX_TOPICS} topics")


def require_seen(names: Iterable[str], caller: Caller) -> None:
    """Raise Forbidden if a name is not within the key's prefixes, whether or not it exists."""
    for name in names:
        if not caller.sees(name):
            raise Forbidden("this name is not within the key's prefixes", topic=name)


def start_of(wanted: WatchedBody, topic: Found) -> Position:
    """Return where a topic is followed from."""
    seq = topic.head if wanted.tail else min(wanted.from_seq, MAX_SEQ)
    return Position(topic.topic_id, seq, topic.head)


def told_starts(
    found: Mapping[str, Found], positions: Mapping[str, Position]
) -> dict[str, dict[str, int]]:
    """Return what a client is told of where its topics begin, and where they stand."""
    return {
        name: {
            "from_seq": positions[name].seq,
            "head_seq": topic.head,
            "earliest_seq": topic.earliest,
        }
        for name, topic in found.items()
    }


def selection_of(body: SelectionBody) -> Selection:
    """Return what is wanted of each topic, within the limits of §4.1; raises Invalid."""
    tag = None if body.tag is None else predicates.parse(body.tag)
    # It is kept for as long as it is followed.
    if tag is not None and len(tag.text.encode()) > MAX_TAG_BYTES:
        raise Invalid(f"`tag` is longer than {MAX_TAG_BYTES} bytes")
    return Selection(
        limit=min(body.limit or DIFF_LIMIT, DIFF_LIMIT_MAX),
        budget=min(body.max_batch_bytes or DIFF_BYTES, DIFF_BYTES_MAX),
        # No record is from one with a longer name.
        nodes=tuple(node for node in body.nodes if len(node.encode()) <= MAX_NODE_BYTES),
        tag=tag,
        with_tags=body.include_tags,
        with_meta=body.include_meta,
        with_data=body.include_data,
    )
