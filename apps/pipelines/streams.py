"""GET /executions/{id}/events: the progress of an execution as it happens (pipelines-storage.md §3, §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from apps.core import clock, sql
from apps.core.api.parameters import Parameters
from apps.core.dataplane import View
from apps.core.sse import frames
from apps.core.sse.duration import read_duration
from apps.core.sse.frames import ERROR, Kind
from apps.core.sse.log import Page
from apps.core.sse.relayed import Start, Terms, follow_log
from apps.core.sse.stream import RETRY_MS, response
from apps.core.threads import in_thread
from apps.pipelines import queries
from apps.pipelines.states import FINAL, ExecutionStatus, StageStatus
from apps.pipelines.transitions import CHANNEL, EVENTS_TOPIC
from apps.topics import queries as topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.core.sse.duration import Duration
    from apps.pipelines.models import Execution
    from apps.topics.queries import Stored

_TAG = "execution/"
_EVENT_ID = "the event's UUIDv7"
_TOLD = {
    StageStatus.INITIATED: "A stage's run waits for a worker.",
    StageStatus.PROCESSING: "A stage is being done.",
    StageStatus.COMPLETED: "A stage, or with `stage` null the execution, has completed.",
    StageStatus.FAILED: "A stage, or with `stage` null the execution, has failed.",
    StageStatus.CANCELLED: "A stage, or with `stage` null the execution, was cancelled.",
    StageStatus.SKIPPED: "A stage was skipped.",
    StageStatus.PENDING: "A stage is to be done again.",
    ExecutionStatus.RUNNING: "The execution goes on after a retry.",
    ExecutionStatus.INTERRUPTED: "A fault of the service stopped the execution; a retry goes on.",
}
KINDS = {str(what): Kind(str(what), sentence, _EVENT_ID) for what, sentence in _TOLD.items()}


class ExecutionEventsView(View):
    scope = {"GET": "read"}
    query_token = True  # a browser's EventSource sends no headers
    staff_session = True
    is_stream = True
    frames = (*KINDS.values(), ERROR)

    async def get(self, request: HttpRequest, caller: Caller, execution: str) -> HttpResponseBase:
        query = Parameters(request.GET)
        lasts = read_duration(query)
        query.finish()
        row = await in_thread(queries.get_execution, named=execution, caller=caller)
        seen = _event_id(request.headers.get("Last-Event-ID"))
        return response(await _progress(row, seen, lasts))


async def _progress(
    execution: Execution, seen: UUID | None, lasts: Duration
) -> AsyncIterator[bytes]:
    """Follow what the log tells of an execution: after the event a reader saw last, else from its beginning."""
    began = clock.milliseconds(execution.created_at) if seen is None else seen.int >> 80
    after = await topics.find_seq_before(EVENTS_TOPIC, began)

    def is_new(event: _Told) -> bool:
        return seen is None or event.event_id > seen

    return follow_log(
        _EVENTS,
        Start(after, seen=after),
        Terms(frozenset({str(execution.id)}), is_new, *lasts),
        opening=frames.retry(RETRY_MS),
    )


class _Event(msgspec.Struct):
    id: UUID
    type: str


_read_event = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class _Told:
    """What the log tells of an execution. Workers' clocks differ, so its place is its seq, not the UUIDv7 it is resumed by."""

    channel: str
    id: int
    frame: bytes
    event_id: UUID


class ExecutionLog:
    """The topic of what happens to executions, as streams follow it; a channel is an execution."""

    news = topics.channel(EVENTS_TOPIC)
    ends = CHANNEL

    async def read(self, after: int, limit: int, only: Collection[str] | None = None) -> Page:
        """Return what the log tells after a position, of all executions or of some."""
        page = await topics.read_after_async(EVENTS_TOPIC, after, limit)
        if page is None:
            return Page([], after, has_more=False)
        events = [_told(one) for one in page.records if only is None or _channel(one) in only]
        return Page(events, page.next_after, page.has_more)

    async def ended(self, channels: Collection[str]) -> Collection[str]:
        """Return the executions of which all is told: their end is in the log with its event, or they are gone."""
        found = await sql.run_async(
            "pipelines/unfinished_executions",
            execution_ids=[UUID(one) for one in channels],
            final=sorted(FINAL),
        )
        return set(channels) - {str(row["id"]) for row in found.rows}


_EVENTS = ExecutionLog()


def _channel(record: Stored) -> str:
    return (record.tag or "").removeprefix(_TAG)


def _told(record: Stored) -> _Told:
    event = _read_event(record.data)
    kind = KINDS[event.type.partition(".")[2]]
    return _Told(
        channel=_channel(record),
        id=record.seq,
        frame=kind.frame(record.data.encode(), id=str(event.id)),
        event_id=event.id,
    )


def _event_id(given: str | None) -> UUID | None:
    """Read a Last-Event-ID; what is none of ours is as none at all."""
    try:
        return UUID(given) if given else None
    except ValueError:
        return None
