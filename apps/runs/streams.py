"""The data plane of runs: the topic feed (runs.md §3), and timelines and logs as they come."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

import msgspec

from apps.core import clock
from apps.core.api.parameters import Parameters
from apps.core.contentpolicy import OF_FOREIGN_CONTENT
from apps.core.dataplane import View, respond
from apps.core.digits import read_digits
from apps.core.errors import NotFound
from apps.core.intake import unless_gone
from apps.core.slim import SlimRequest
from apps.core.sse.frames import ERROR, Kind
from apps.core.sse.stream import Step, StreamResponse, follow, nothing_more, response
from apps.core.threads import in_thread
from apps.runs import queries, wire
from apps.topics import queries as topics
from apps.topics.states import RecordKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.runs.models import Run, RunEvent
    from apps.topics.queries import Page, Stored

_POSITION = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
JSON = Any
_encode = msgspec.json.encode
EVENTS_PER_READ = 500
# Byte offsets in a log: far beyond any, and still within a bigint.
FURTHEST = 2**62
MAX_WAIT_SECONDS = 30


# --- GET /events ---------------------------------------------------------------------------------


class FeedView(View):
    scope = {"GET": "read"}
    staff_session = True

    async def get(self, request: HttpRequest, caller: Caller) -> Answer:
        query = Parameters(request.GET)
        topic = query.text("topic")
        after = query.text("after")
        limit = query.integer("limit", default=100, low=1, high=500)
        wait = query.number("wait", default=0, low=0, high=MAX_WAIT_SECONDS)
        if not topic:
            query.fail("topic", "is required")
        start = 0 if after is None else read_digits(after)
        if start is None or start > topics.MAX_SEQ:
            query.fail("after", "is not a cursor of this feed")
            start = 0
        query.finish()
        if not caller.sees(str(topic)):
            raise NotFound(f"no topic {topic}", topic=topic)
        reading = topics.read_feed(str(topic), start, limit, wait=wait)
        if wait and isinstance(request, SlimRequest):
            # Or it would be under way, and count, for as long as a client that has left wanted to wait.
            reading = unless_gone(request.receive, reading)
        page = await reading
        return respond(_feed_page(page, start, after or "0"))


def _feed_page(page: Page, start: int, after: str) -> bytes:
    """Write a page; what runs published is spliced in as it was stored."""
    # The echo of a client's own spelling, unless the reader has to move on without an event.
    is_still = not page.records and page.next_after == start
    members = [
        b'"events":[' + b",".join(map(_feed_event, page.records)) + b"]",
        b'"next_cursor":' + _encode(after if is_still else str(page.next_after)),
        b'"has_more":' + _encode(page.has_more),
    ]
    if page.gap is not None:
        gap = page.gap
        said = {"from": str(gap.gap_from), "to": str(gap.gap_to), "reason": gap.reason}
        members.append(b'"gap":' + _encode(said))
    return b"{" + b",".join(members) + b"}"


def _feed_event(record: Stored) -> bytes:
    cursor = b'{"cursor":"%d",' % record.seq
    if record.kind == RecordKind.RUN_EVENT:
        return cursor + record.data.encode()[1:]
    payload: dict[str, JSON] = {"data": msgspec.Raw(record.data.encode())}
    if record.tag is not None:
        payload["tag"] = record.tag
    if record.node is not None:
        payload["node"] = record.node
    if record.meta is not None:
        payload["meta"] = msgspec.Raw(record.meta.encode())
    message = {
        "run_id": None,
        "attempt": None,
        "type": "MESSAGE",
        "msg": "",
        "t": clock.rfc3339_of_milliseconds(record.ts),
        "state": None,
        "payload": payload,
    }
    return cursor + _encode(message)[1:]


# --- GET /runs/{id}/stream -----------------------------------------------------------------------


SNAPSHOT = Kind("snapshot", "The run as it is. First of all, unless the reader resumes.")
EVENT = Kind(
    "",
    "An event of the run, with `run_id` and `attempt`. The stream ends after the one that ends the run.",
    "attempt and number, such as `1-4`",
)


class RunStreamView(View):
    scope = {"GET": "read"}
    run_token = True
    query_token = True  # a browser's EventSource sends no headers
    staff_session = True
    is_stream = True
    frames = (SNAPSHOT, EVENT, ERROR)

    async def get(self, request: HttpRequest, caller: Caller, run_id: UUID) -> HttpResponseBase:
        query = Parameters(request.GET)
        given = request.headers.get("Last-Event-ID") or query.text("after")
        position = _POSITION.fullmatch(given) if given else None
        if given and position is None:
            query.fail("after", "is not an id of this stream: attempt-number, such as 1-4")
        query.finish()
        run = await _visible_run(run_id, caller)
        if position is None:
            return response(_timeline(run, run.current_attempt, -1, is_fresh=True))
        attempt, number = int(position[1]), int(position[2])
        events, is_final = await queries.read_timeline_after(run_id, attempt, number, limit=1)
        if is_final and not events:
            return nothing_more()
        return response(_timeline(run, attempt, number, is_fresh=False))


def _timeline(run: Run, attempt: int, number: int, *, is_fresh: bool) -> AsyncIterator[bytes]:
    """Follow the events after (attempt, number); a fresh reader gets the run itself first."""
    position = (attempt, number)
    first = [SNAPSHOT.frame(_encode(wire.run(run)))] if is_fresh else []

    async def read() -> Step:
        nonlocal position
        events, is_final = await queries.read_timeline_after(
            run.id, *position, limit=EVENTS_PER_READ
        )
        if events:
            position = (events[-1].attempt, events[-1].number)
        has_more = len(events) == EVENTS_PER_READ
        sent = [*first, *map(_timeline_frame, events)]
        first.clear()
        return Step(sent, has_more=has_more, is_over=is_final and not has_more)

    return follow([channel(run.id)], read)


def _timeline_frame(event: RunEvent) -> bytes:
    data = {"run_id": str(event.run_id), "attempt": event.attempt, **wire.event(event)}
    return EVENT.frame(_encode(data), id=f"{event.attempt}-{event.number}")


# --- GET /runs/{id}/logs -------------------------------------------------------------------------


LOG = Kind(
    "log",
    "With `follow=true`: the next piece of the log, as `text`; a character is never cut.",
    "the byte offset after the piece",
)
END = Kind("end", "The attempt has ended: its `attempt`, and the `state` of the run. The last one.")


class RunLogsView(View):
    scope = {"GET": "read"}
    run_token = True
    query_token = True  # a browser's EventSource sends no headers
    staff_session = True
    is_stream = True
    frames = (LOG, END, ERROR)

    async def get(self, request: HttpRequest, caller: Caller, run_id: UUID) -> HttpResponseBase:
        query = Parameters(request.GET)
        number = query.integer("attempt", default=0, low=1, high=2**31 - 1)
        after = query.integer("after", default=0, low=0, high=FURTHEST)
        is_followed = query.boolean("follow")
        given = request.headers.get("Last-Event-ID") if is_followed else None
        resumed = read_digits(given) if given else None
        if given and (resumed is None or resumed > FURTHEST):
            query.fail("Last-Event-ID", "is not an id of this stream: a byte offset")
        query.finish()
        run = await _visible_run(run_id, caller)
        attempt = queries.require_attempt(run, number or None)
        if not is_followed:
            return StreamResponse(
                _log_text(run_id, attempt, after),
                is_document=True,
                content_type="text/plain; charset=utf-8",
                headers=OF_FOREIGN_CONTENT,
            )
        if resumed is not None:
            after = resumed
            log = await queries.read_log_after(run_id, attempt, after)
            if log.has_ended and not log.content:
                return nothing_more()
        return response(_log_frames(run_id, attempt, after))


async def _log_text(run_id: UUID, attempt: int, after: int) -> AsyncIterator[bytes]:
    """Yield what there is of the log now."""
    while True:
        log = await queries.read_log_after(run_id, attempt, after)
        if not log.content:
            return
        after = log.end
        yield log.content


def _log_frames(run_id: UUID, attempt: int, after: int) -> AsyncIterator[bytes]:
    """Follow the log to the attempt's end; a character is never cut, an id is the offset after its text."""

    async def read() -> Step:
        nonlocal after
        log = await queries.read_log_after(run_id, attempt, after)
        is_over = log.has_ended and not log.has_more
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(log.content, final=is_over)
        sent = []
        if text:
            after = log.end - len(decoder.getstate()[0])
            sent.append(LOG.frame(_encode({"text": text}), id=str(after)))
        if is_over:
            sent.append(END.frame(_encode({"attempt": attempt, "state": log.run_state})))
        return Step(sent, has_more=log.has_more, is_over=is_over)

    return follow([channel(run_id)], read)


# --- shared --------------------------------------------------------------------------------------


def channel(run_id: UUID) -> str:
    """Return the wake-up channel of whatever is new on a run."""
    return f"run:{run_id}"


async def _visible_run(run_id: UUID, caller: Caller) -> Run:
    if caller.run_id not in (None, run_id):
        raise NotFound(f"no run {run_id}", run_id=str(run_id))
    return await in_thread(queries.get_run, run_id=run_id, caller=caller)
