"""Storage events: one record in the log for each write and each deletion, with ids that rise in commit order."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from django.conf import settings

from apps.core import clock
from apps.core.sse import wakeups
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apps.storage.models import Object, Space
    from apps.topics.services import NewEvent

JSON = Any

EVENTS_TOPIC = "system.storage.events"
# Announced, with the tag of an execution behind it, when its storage was closed, or opened again.
ENDS = "storage-ends:"
CREATED = "storage.object.created"
DELETED = "storage.object.deleted"
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Told:
    """An object that an event is about."""

    space: Space
    one: Object
    # Of the request by which it has happened.
    correlation_id: str | None


def append(events: Sequence[NewEvent]) -> None:
    """Append events as the last step of the caller's transaction.

    From here to commit every other writer, to whatever space, waits.
    """
    if events:
        topics.ensure_topic(EVENTS_TOPIC, ttl_ms=settings.GYOZA_STORAGE_EVENT_DAYS * _DAY_MS)
        topics.append_events(events)


def make(kind: str, told: Sequence[Told], *, last_tick: int) -> list[NewEvent]:
    """Make an event per object, in this order, with ids of the ticks up to the last one."""
    first = last_tick - len(told) + 1
    return [
        topics.NewEvent(
            topic=EVENTS_TOPIC,
            data=msgspec.json.encode(_event(kind, _uuid7(tick), about)).decode(),
            tag=tag_of(about.space.execution_id),
        )
        for tick, about in enumerate(told, first)
    ]


def tag_of(execution_id: UUID) -> str:
    """Return the tag of the records of an execution's events."""
    return f"execution/{execution_id}"


def announce_ends(execution_ids: Iterable[UUID]) -> None:
    """Have streams look, after commit, whether executions are still written to."""
    wakeups.announce_on_commit(*(f"{ENDS}{tag_of(one)}" for one in execution_ids))


def _uuid7(tick: int) -> UUID:
    """RFC 9562 §6.2, method 1: the 12 bits after the milliseconds count."""
    milliseconds, count = divmod(tick, 4096)
    bits = milliseconds << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=bits)


def _event(kind: str, event_id: UUID, about: Told) -> dict[str, JSON]:
    space, one = about.space, about.one
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
        "correlation_id": about.correlation_id or space.correlation_id or None,
        "metadata": one.metadata,
    }
