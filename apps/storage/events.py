"""Storage events: one record in the log for each write and each deletion, with ids that rise in commit order."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from django.conf import settings

from apps.core import clock, correlation, sql
from apps.core.sse import wakeups
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apps.storage.models import Object, Space

JSON = Any

EVENTS_TOPIC = "system.storage.events"
# Announced, with the tag of an execution behind it, when its storage was closed, or opened again.
ENDS = "storage-ends:"
CREATED = "storage.object.created"
DELETED = "storage.object.deleted"
_DAY_MS = 86_400_000


def append(kind: str, space: Space, objects: Sequence[Object]) -> None:
    """Append an event per object, as the last step of the caller's transaction.

    From here to commit every other writer, to whatever space, waits.
    """
    # Before the topic, be it there or not: whoever writes here has the clock first.
    taken = take_ids(len(objects))
    topics.ensure_topic(EVENTS_TOPIC, ttl_ms=settings.GYOZA_STORAGE_EVENT_DAYS * _DAY_MS)
    topics.append_events(
        [
            topics.NewEvent(
                topic=EVENTS_TOPIC,
                data=msgspec.json.encode(_event(kind, event_id, space, one)).decode(),
                tag=tag_of(space.execution_id),
            )
            for one, event_id in zip(objects, taken, strict=True)
        ]
    )


def tag_of(execution_id: UUID) -> str:
    """Return the tag of the records of an execution's events."""
    return f"execution/{execution_id}"


def announce_ends(execution_ids: Iterable[UUID]) -> None:
    """Have streams look, after commit, whether executions are still written to."""
    wakeups.announce_on_commit(*(f"{ENDS}{tag_of(one)}" for one in execution_ids))


def take_ids(wanted: int) -> list[UUID]:
    """Return the next ids, UUIDv7, above all that were ever committed; nobody else gets one before the caller commits."""
    now_ms = clock.milliseconds(clock.now())
    last = sql.run_bound("storage/take_event_ids", now_ms=now_ms, wanted=wanted).rows[0]["tick"]
    return [_uuid7(tick) for tick in range(last - wanted + 1, last + 1)]


def _uuid7(tick: int) -> UUID:
    """RFC 9562 §6.2, method 1: the 12 bits after the milliseconds count."""
    milliseconds, count = divmod(tick, 4096)
    bits = milliseconds << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=bits)


def _event(kind: str, event_id: UUID, space: Space, one: Object) -> dict[str, JSON]:
    return {
        "id": str(event_id),
        "type": kind,
        "timestamp": clock.rfc3339(clock.now() if kind == DELETED else one.modified_at),
        "execution_id": str(space.execution_id),
        "tag": space.tag,
        "stage": one.stage,
        "path": one.path,
        "key": one.key,
        "extension": one.extension,
        "content_type": one.content_type,
        "content_length": one.content_length,
        "checksum": f"sha256:{one.sha256}",
        "etag": one.etag,
        "run_id": None if one.run_id is None else str(one.run_id),
        "correlation_id": correlation.current() or space.correlation_id or None,
        "metadata": one.metadata,
    }
