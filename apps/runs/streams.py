"""What follows runs: the topic feed, a run's timeline, and its log (runs.md §2, §3)."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

import msgspec
from django.http import HttpResponse

from apps.core import clock, sql
from apps.core.api.parameters import Parameters
from apps.core.dataplane import View, respond
from apps.core.errors import NotFound
from apps.core.sse import frames, stream
from apps.core.sse.stream import Step
from apps.core.threads import in_thread
from apps.runs import queries
from apps.runs.states import FINAL, RunState
from apps.topics import queries as topics
from apps.topics.states import RecordKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from apps.access.auth import Caller
    from apps.runs.models import Run
    from apps.topics.queries import Page, Stored

MAX_WAIT_SECONDS = 30
EVENTS_PER_READ = 500
PIECES_PER_READ = 8
_CURSOR = re.compile(r"\d{1,20}", re.ASCII)
_EVENT_ID = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
_encode = msgspec.json.encode


# --- GET /events ---------------------------------------------------------------------------------


class FeedView(View):
    scope = {"GET": "read"}

    async def get(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        query = Parameters(request.GET)
        topic = query.text("topic")
        if not topic:
            query.fail("topic", "is required")
        after = _cursor(query)
        limit = query.integer("limit", default=100, low=1, high=500)
        wait = query.number("wait", default=0, low=0, high=MAX_WAIT_SECONDS)
        query.finish()
        if not caller.sees(topic or ""):
            raise NotFound(f"no topic {topic}", topic=topic)
        page = await topics.read_feed(topic or "", after, limit, wait=wait)
        return respond(_feed_page(page, after))


def _cursor(query: Parameters) -> int:
    given = query.text("after")
    if given is None:
        return 0
    if not _CURSOR.fullmatch(given) or int(given) >= 2**64:
        query.fail("after", "is not a cursor: give the next_cursor of an earlier answer")
        return 0
    return int(given)


def _feed_page(page: Page, after: int) -> bytes:
    """Write a page; what runs have published is spliced in as it was stored, without parsing it."""
    events = b",".join(_feed_event(record) for record in page.records)
    is_empty = not page.records and page.gap is None
    rest: dict[str, Any] = {
        "next_cursor": str(after if is_empty else page.next_after),
        "has_more": page.has_more,
    }
    if page.gap is not None:
        gap = page.gap
        rest["gap"] = {"from": str(gap.gap_from), "to": str(gap.gap_to), "reason": gap.reason}
    return b'{"events":[' + events + b"]," + _encode(rest)[1:]


def _feed_event(record: Stored) -> bytes:
    cursor = f'{{"cursor":"{record.seq}",'.encode("ascii")
    if record.kind == RecordKind.RUN_EVENT:
        return cursor + record.data.encode()[1:]
    payload: dict[str, Any] = {"data": msgspec.Raw(record.data.encode())}
    if record.tag is not None:
        payload["tag"] = record.tag
    if record.node is not None:
        payload["node"] = record.node
    if record.meta is not None:
        payload["meta"] = msgspec.Raw(record.meta.encode())
    return (
        cursor
        + _encode(
            {
                "run_id": None,
                "attempt": None,
                "type": "MESSAGE",
                "msg": "",
                "t": clock.rfc3339_of_milliseconds(record.ts),
                "state": None,
                "payload": payload,
            }
        )[1:]
    )


# --- GET /runs/{id}/stream -----------------------------------------------------------------------


class RunStreamView(View):
    scope = {"GET": "read"}
    run_token = True
    query_token = True
    is_stream = True

    async def get(self, request: HttpRequest, caller: Caller, run_id: UUID) -> HttpResponseBase:
        query = Parameters(request.GET)
        given = request.headers.get("Last-Event-ID") or query.text("after")
        matched = _EVENT_ID.fullmatch(given or "")
        if query.text("after") is not None and not _EVENT_ID.fullmatch(query.text("after") or ""):
            query.fail("after", "must be attempt-number, such as 1-4")
        query.finish()
        await _readable_run(caller, run_id)
        timeline = _Timeline(run_id, *((int(matched[1]), int(matched[2])) if matched else (0, -1)))
        first = await timeline.read()
        if matched and first.is_over and not first.frames:
            # Nothing will follow: this is what stops a browser from connecting again.
            return HttpResponse(status=204)
        return stream.response(_begin_with(first, [f"run:{run_id}"], timeline))


class _Timeline:
    """Where a reader of a run's timeline is."""

    def __init__(self, run_id: UUID, attempt: int, number: int) -> None:
        self.run_id, self.attempt, self.number = run_id, attempt, number

    async def read(self) -> Step:
        result = await sql.run_async(
            "runs/read_timeline_after",
            run_id=self.run_id,
            attempt=self.attempt,
            number=self.number,
            limit=EVENTS_PER_READ,
        )
        if not result.rows:
            return Step([], is_over=True)  # the run has been deleted
        found = [_event_frame(row) for row in result.rows if row["number"] is not None]
        if found:
            last = result.rows[-1]
            self.attempt, self.number = last["attempt"], last["number"]
        has_more = len(found) == EVENTS_PER_READ
        is_final = RunState(result.rows[0]["run_state"]) in FINAL
        return Step(found, has_more=has_more, is_over=is_final and not has_more)


def _event_frame(row: dict[str, Any]) -> bytes:
    entry = {
        "id": row["number"],
        "attempt": row["attempt"],
        "t": clock.rfc3339(row["at"]),
        "type": row["type"],
        "msg": row["msg"],
        "state": row["state"],
        "payload": row["payload"],
    }
    name = f"{row['attempt']}-{row['number']}"
    return frames.frame(id=name, event=row["type"], data=_encode(entry))


# --- GET /runs/{id}/logs -------------------------------------------------------------------------


class RunLogsView(View):
    scope = {"GET": "read"}
    run_token = True
    query_token = True
    is_stream = True

    async def get(self, request: HttpRequest, caller: Caller, run_id: UUID) -> HttpResponseBase:
        query = Parameters(request.GET)
        attempt = query.integer("attempt", default=0, low=1, high=2**31 - 1)
        after = query.integer("after", default=0, low=0, high=2**62)
        follow = query.boolean("follow")
        query.finish()
        run = await _readable_run(caller, run_id)
        number = await in_thread(queries.require_attempt, run, attempt or None)
        last_id = request.headers.get("Last-Event-ID", "")
        is_resumed = follow and _CURSOR.fullmatch(last_id) is not None
        log = _Log(run_id, number, int(last_id) if is_resumed else after)
        if not follow:
            return HttpResponse(await log.read_all(), content_type="text/plain; charset=utf-8")
        first = await log.read()
        if is_resumed and first.is_over and not first.frames:
            return HttpResponse(status=204)
        return stream.response(_begin_with(first, [f"run:{run_id}"], log))


class _Log:
    """Where a reader of an attempt's log is, in bytes."""

    def __init__(self, run_id: UUID, attempt: int, offset: int) -> None:
        self.run_id, self.attempt, self.offset = run_id, attempt, offset
        # A character may be cut by the end of a piece; what is left of it waits for the next one.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def read_bytes(self) -> tuple[bytes, bool]:
        """Return the next bytes, and whether the attempt had ended when they were read."""
        rows = (
            await sql.run_async(
                "runs/read_log_after",
                run_id=self.run_id,
                attempt=self.attempt,
                after=self.offset,
                limit=PIECES_PER_READ,
            )
        ).rows
        if not rows:
            return b"", True
        pieces = []
        for row in rows:
            if row["start"] is not None:
                content = bytes(row["content"])[max(0, self.offset - row["start"]) :]
                self.offset += len(content)
                pieces.append(content)
        is_live = rows[0]["current_attempt"] == self.attempt
        return b"".join(pieces), not is_live or RunState(rows[0]["run_state"]) in FINAL

    async def read_all(self) -> bytes:
        """Return everything there is from here on."""
        pieces = []
        while (piece := await self.read_bytes())[0]:
            pieces.append(piece[0])
        return b"".join(pieces)

    async def read(self) -> Step:
        content, has_ended = await self.read_bytes()
        if not content:
            return Step([], is_over=has_ended)
        text = self._decoder.decode(content)
        shown = self.offset - len(self._decoder.getstate()[0])
        data = _encode({"attempt": self.attempt, "text": text})
        return Step([frames.frame(id=str(shown), event="log", data=data)], has_more=True)


# --- both ----------------------------------------------------------------------------------------


async def _readable_run(caller: Caller, run_id: UUID) -> Run:
    if caller.run_id not in (None, run_id):
        raise NotFound(f"no run {run_id}", run_id=str(run_id))
    return await in_thread(queries.get_run, run_id=run_id, caller=caller)


async def _begin_with(
    first: Step, channels: list[str], reader: _Timeline | _Log
) -> AsyncIterator[bytes]:
    """Follow, with what was read before the answer began as the first step."""
    unsent: list[Step] = [first]

    async def read() -> Step:
        if unsent:
            begun = unsent.pop()
            # Read before anyone listened: read again at once.
            return begun._replace(has_more=not begun.is_over)
        return await reader.read()

    async for part in stream.follow(channels, read):
        yield part
