"""The topic of storage events, as the event stream and django-eventstream read it: the only place where events are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import msgspec
from django_eventstream.event import Event
from django_eventstream.storage import StorageBase

from apps.core import sql
from apps.core.sse.frames import Kind
from apps.core.sse.log import Page
from apps.core.sse.relayed import Start
from apps.core.threads import run_here
from apps.storage.events import CREATED, DELETED, ENDS, EVENTS_TOPIC, tag_of
from apps.storage.eventstream.channels import execution_of
from apps.topics import queries as topics

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from apps.topics.queries import Stored

OBJECT_CREATED = Kind(
    CREATED,
    "An object was written; `data` is its event, as in the topic `system.storage.events`.",
    "the event's UUIDv7",
)
OBJECT_DELETED = Kind(
    DELETED,
    "With `deletions=true`: an object was deleted; `data` says which, with the etag it had.",
    "the event's UUIDv7",
)
_PAGE = 500


class _Told(msgspec.Struct):
    id: UUID
    type: str
    stage: str
    path: str
    extension: str


_read_event = msgspec.json.Decoder(_Told).decode


@dataclass
class StoredEvent(Event):  # type: ignore[misc]  # the library has no types
    """An event of the log; `id` is its UUIDv7 as a number, `data` its JSON text."""

    stage: str = ""
    path: str = ""
    extension: str = ""
    frame: bytes = b""


class EventLog(StorageBase):  # type: ignore[misc]  # the library has no types
    """What django-eventstream calls a storage: it reads the log, and writes nothing.

    An event is in the log before anybody is told, in the transaction that writes the object; told is by `core.sse`.
    """

    news = topics.channel(EVENTS_TOPIC)
    ends = ENDS

    # --- for streams ------------------------------------------------------------------------------

    async def read(self, after: int, limit: int, only: Collection[str] | None = None) -> Page:
        """Return the next events after a position, of all executions or of some."""
        page = await topics.read_after_async(EVENTS_TOPIC, after, limit)
        if page is None:
            return Page([], after, has_more=False)
        wanted = page.records if only is None else [one for one in page.records if one.tag in only]
        events = [event for event in map(_event, wanted) if event is not None]
        return Page(events, page.next_after, page.has_more)

    async def ended(self, channels: Collection[str]) -> Collection[str]:
        """Return the channels of executions that are not written to any more."""
        asked = [one for one in map(execution_of, channels) if one is not None]
        found = await sql.run_async("storage/open_spaces", execution_ids=asked)
        return set(channels) - {tag_of(row["execution_id"]) for row in found.rows}

    async def newest(self) -> Start:
        """Return where the log stands."""
        head, record = await topics.read_newest(EVENTS_TOPIC)
        event = None if record is None else _event(record)
        return Start(head, 0 if event is None else event.id)

    async def find(self, event_id: int) -> int:
        """Return a position after which all events with a greater id come, and hardly any other."""

        def is_before(record: Stored) -> bool:
            event = _event(record)
            return event is not None and event.id <= event_id

        return await topics.find_seq(EVENTS_TOPIC, is_before)

    # --- for django-eventstream -------------------------------------------------------------------

    def append_event(self, channel: str, event_type: str, data: Any) -> NoReturn:
        """Refuse: an event is written with its object and by nobody else."""
        raise NotImplementedError("storage events are written by apps.storage.services")

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """Return at most `limit` events of an execution with a greater id; none is missing but what retention took."""
        return run_here(self._events_after(channel, last_id, limit))

    def get_current_id(self, channel: str) -> int:
        """Return the newest id of the log, whatever the channel."""
        return run_here(self.newest()).seen

    async def _events_after(self, channel: str, last_id: int, limit: int) -> list[Event]:
        found: list[Event] = []
        page = Page([], await self.find(last_id), has_more=True)
        while page.has_more and len(found) < limit:
            page = await self.read(page.after, _PAGE, [channel])
            found += [one for one in page.events if one.id > last_id]
        return found[:limit]


def _event(record: Stored) -> StoredEvent | None:
    """Read a record; None if somebody else has written it."""
    try:
        told = _read_event(record.data)
    except msgspec.DecodeError:
        return None
    return StoredEvent(
        channel=record.tag or "",
        type=told.type,
        data=record.data,
        id=told.id.int,
        stage=told.stage,
        path=told.path,
        extension=told.extension,
        frame=Kind(told.type, "").frame(record.data.encode(), id=str(told.id)),
    )
