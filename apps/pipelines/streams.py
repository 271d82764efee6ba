"""GET /executions/{id}/events: the progress of an execution as it happens (pipelines-storage.md §3, §5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from apps.core import clock
from apps.core.dataplane import View
from apps.core.sse.frames import ERROR, Kind, comment
from apps.core.sse.stream import Step, follow, response
from apps.core.threads import in_thread
from apps.pipelines import queries
from apps.pipelines.states import FINAL, ExecutionStatus, StageStatus
from apps.pipelines.transitions import EVENTS_TOPIC, channel
from apps.topics import queries as topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.pipelines.models import Execution
    from apps.topics.queries import Stored

JSON = Any
RECORDS_PER_READ = 500
OVER = comment("end reason=all_terminal")

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
    is_stream = True
    frames = (*KINDS.values(), ERROR)

    async def get(self, request: HttpRequest, caller: Caller, execution: str) -> HttpResponseBase:
        row = await in_thread(queries.get_execution, named=execution, caller=caller)
        seen = _event_id(request.headers.get("Last-Event-ID"))
        return response(await _progress(row, seen))


async def _progress(execution: Execution, seen: UUID | None) -> AsyncIterator[bytes]:
    """Follow what the log tells of an execution: after the event a reader saw last, else from its beginning."""
    tag = f"execution/{execution.id}"
    began = clock.milliseconds(execution.created_at) if seen is None else seen.int >> 80
    position = await topics.find_seq_before(EVENTS_TOPIC, began)
    # What it was when it was looked up; the log tells of what has changed since.
    is_final = execution.status in FINAL

    async def read() -> Step:
        nonlocal position, is_final
        page = await topics.read_after_async(EVENTS_TOPIC, position, RECORDS_PER_READ)
        if page is None:
            return Step([OVER] if is_final else [], is_over=is_final)
        frames = []
        for record in page.records:
            if record.tag == tag:
                event = json.loads(record.data)
                is_final = event["status"] in FINAL
                if seen is None or UUID(event["id"]) > seen:
                    frames.append(_frame(record, event))
        position = page.next_after
        is_over = is_final and not page.has_more
        return Step([*frames, OVER] if is_over else frames, has_more=page.has_more, is_over=is_over)

    return follow([channel(execution.id)], read)


def _frame(record: Stored, event: dict[str, JSON]) -> bytes:
    what = event["type"].partition(".")[2]
    return KINDS[what].frame(record.data.encode(), id=event["id"])


def _event_id(given: str | None) -> UUID | None:
    """Read a Last-Event-ID; what is none of ours is as none at all."""
    try:
        return UUID(given) if given else None
    except ValueError:
        return None
