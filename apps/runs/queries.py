"""Reads of runs, attempts, timelines and workers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from apps.core import clock, sql
from apps.core.errors import GyozaError, NotFound, Unauthorized
from apps.core.steps import Statement
from apps.runs.models import Attempt, LogChunk, Run, RunEvent, Worker
from apps.runs.states import FINAL, HOLDS_RESOURCES, RunState, WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.core.steps import Steps
    from apps.runs.models import RunQuerySet

# Events in one answer, over all attempts; each has room for some.
MOST_EVENTS = 10_000
LEAST_EVENTS = 100
# What one read of a log takes: many small pieces, but not many big ones, or hundreds of readers would fill the memory.
LOG_PIECES = 16
LOG_BYTES = 256 * 1024
# For how long a lost worker is listed.
REMEMBERED = timedelta(days=1)

_ENDED = "the run token has ended with its attempt"


def get_run(*, run_id: UUID, caller: Caller) -> Run:
    """Return a run the caller may see. Raises NotFound, and Unauthorized for an op whose attempt has ended."""
    run = _visible_to(caller).filter(pk=run_id).first()
    if run is None:
        raise _no_run(run_id)
    if not _may_call(run, caller):
        raise Unauthorized(_ENDED)
    return run


def executions_of(callers: Collection[Caller]) -> Steps[dict[Caller, UUID | GyozaError | None]]:
    """Return the execution of each run whose token is shown, or what it is refused for, as `get_run` does; in one query."""
    asked = sorted({caller.run_id for caller in callers if caller.run_id is not None})
    rows = yield Statement("runs/find_attempts", {"run_ids": asked})
    runs = {row["id"]: Run.from_db("default", list(row), list(row.values())) for row in rows}
    found: dict[Caller, UUID | GyozaError | None] = {}
    for caller in callers:
        run = runs.get(caller.run_id)
        if run is None:
            found[caller] = _no_run(caller.run_id)
        else:
            found[caller] = run.execution_id if _may_call(run, caller) else Unauthorized(_ENDED)
    return found


def _no_run(run_id: UUID | None) -> NotFound:
    return NotFound(f"no run {run_id}", run_id=str(run_id))


def _may_call(run: Run, caller: Caller) -> bool:
    """Say whether the caller is no op, or that of the live attempt."""
    is_held = RunState(run.state) in HOLDS_RESOURCES
    return caller.attempt is None or (is_held and run.current_attempt == caller.attempt)


def timeline(run: Run, *, attempt: int, after: int = -1) -> list[RunEvent]:
    """Return the events of an attempt whose number is above `after`, oldest first."""
    rows = RunEvent.objects.filter(run_id=run.id, attempt=attempt, number__gt=after)
    return list(rows.order_by("number")[:MOST_EVENTS])


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt, live or past, with its timeline."""

    number: int
    attempt: Attempt | Run
    worker_id: str | None
    events: Sequence[RunEvent]


def attempts(run: Run) -> list[AttemptView]:
    """Return every attempt of a run with the beginning of its timeline, oldest first, in two queries.

    An op may have said a quarter of a million things in each attempt; `timeline` reads on from there.
    """
    events: dict[int, list[RunEvent]] = {}
    share = max(MOST_EVENTS // run.current_attempt, LEAST_EVENTS)
    rows = RunEvent.objects.filter(run_id=run.id, number__lt=share)
    for event in rows.order_by("attempt", "number"):
        events.setdefault(event.attempt, []).append(event)
    past = [
        AttemptView(row.number, row, row.worker_name, events.get(row.number, []))
        for row in Attempt.objects.filter(run_id=run.id).order_by("number")
    ]
    return [*past, _live_attempt(run, events.get(run.current_attempt, []))]


def get_attempt(run: Run, number: int) -> AttemptView:
    """Return one attempt of a run with its timeline. Raises NotFound."""
    if number == run.current_attempt:
        return _live_attempt(run, timeline(run, attempt=number))
    row = Attempt.objects.filter(run_id=run.id, number=number).first()
    if row is None:
        raise NotFound(f"run {run.id} has no attempt {number}", run_id=str(run.id))
    return AttemptView(number, row, row.worker_name, timeline(run, attempt=number))


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a log, and the offset behind it."""

    content: bytes
    end: int
    is_all: bool

    @property
    def text(self) -> str:
        """Return it as text; a character that was cut is a replacement character."""
        return self.content.decode("utf-8", "replace")


def log_tail(run: Run, *, length: int = 16_384) -> LogTail:
    """Return the last bytes of the live attempt's log."""
    rows = LogChunk.objects.filter(run_id=run.id, attempt=run.current_attempt).order_by("-start")
    pieces: list[bytes] = []
    begin = end = 0
    for row in rows[:64]:
        pieces.insert(0, bytes(row.content))
        begin, end = row.start, end or row.start + len(row.content)
        if sum(map(len, pieces)) >= length:
            break
    content = b"".join(pieces)
    return LogTail(content[-length:], end, is_all=begin == 0 and len(content) <= length)


def require_attempt(run: Run, number: int | None) -> int:
    """Return the number, or the live attempt's for None. Raises NotFound for one that has not been."""
    if number is None:
        return run.current_attempt
    if not 1 <= number <= run.current_attempt:
        raise NotFound(f"run {run.id} has no attempt {number}", run_id=str(run.id))
    return number


# --- for the streams -----------------------------------------------------------------------------


async def read_timeline_after(
    run_id: UUID, attempt: int, number: int, *, limit: int
) -> tuple[list[RunEvent], bool]:
    """Return the events after (attempt, number), and whether the run was final at that moment.

    A run that is gone has no more events.
    """
    found = await sql.run_async(
        "runs/read_timeline_after", run_id=run_id, attempt=attempt, number=number, limit=limit
    )
    events = [_event(run_id, row) for row in found.rows if row["number"] is not None]
    return events, not found.rows or RunState(found.rows[0]["run_state"]) in FINAL


@dataclass(frozen=True, slots=True)
class LogPart:
    """A stretch of an attempt's log, where it ends, and what is known of the attempt at that moment."""

    content: bytes
    end: int
    has_more: bool
    has_ended: bool
    run_state: str


async def read_log_after(run_id: UUID, attempt: int, after: int) -> LogPart:
    """Return the next stretch of an attempt's log after a byte offset."""
    rows = (
        await sql.run_async(
            "runs/read_log_after",
            run_id=run_id,
            attempt=attempt,
            after=after,
            pieces=LOG_PIECES,
            size=LOG_BYTES - 1,
        )
    ).rows
    if not rows:  # deleted meanwhile
        return LogPart(b"", after, has_more=False, has_ended=True, run_state="")
    content = bytearray()
    end = after
    for row in rows:
        if row["start"] is None or row["start"] + len(row["content"]) <= end:
            continue
        # A worker that took over may have written a piece that overlaps the one before.
        content += row["content"][max(end - row["start"], 0) :]
        end = row["start"] + len(row["content"])
    state = rows[0]["run_state"]
    return LogPart(
        bytes(content),
        end,
        has_more=rows[0]["found"] == LOG_PIECES or len(rows) < (rows[0]["found"] or 0),
        has_ended=rows[0]["current_attempt"] > attempt or RunState(state) in FINAL,
        run_state=state,
    )


def _event(run_id: UUID, row: dict[str, Any]) -> RunEvent:
    names = ("attempt", "number", "at", "type", "msg", "state", "payload")
    return RunEvent(run_id=run_id, **{name: row[name] for name in names})


def runs_of_worker(worker: Worker, *, limit: int) -> list[Run]:
    """Return the runs that a worker holds, oldest claim first."""
    held = Run.objects.filter(worker=worker, state__in=HOLDS_RESOURCES)
    return list(held.order_by("assigned_at")[:limit])


# --- workers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """A worker, the runs it holds and what they declare."""

    worker: Worker
    running: list[str]
    cpu: int
    ram_mb: int
    vram_mb: dict[int, int]


def workers(caller: Caller) -> list[WorkerLoad]:
    """Return the workers with what they hold, in two queries; runs the caller may not see stay unnamed.

    Those that have been lost for days are left out: in a cluster every restart brings a new name.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    rows = Run.objects.filter(state__in=HOLDS_RESOURCES, worker__isnull=False)
    for row in rows.order_by("id").values("id", "worker_id", "cpu", "ram_mb", "vram_mb", "gpu"):
        held.setdefault(str(row["worker_id"]), []).append(dict(row))
    seen: set[UUID] | None = None
    if caller.prefixes:
        visible = _visible_to(caller).filter(state__in=HOLDS_RESOURCES)
        seen = set(visible.values_list("id", flat=True))
    long_gone = Q(state=WorkerState.LOST, heartbeat_at__lt=clock.now() - REMEMBERED)
    listed = Worker.objects.exclude(long_gone).order_by("id")
    return [_load(worker, held.get(worker.id, []), seen) for worker in listed]


def _load(worker: Worker, rows: list[dict[str, Any]], seen: set[UUID] | None) -> WorkerLoad:
    vram: dict[int, int] = {}
    for row in rows:
        if row["gpu"] is not None:
            vram[row["gpu"]] = vram.get(row["gpu"], 0) + (row["vram_mb"] or 0)
    return WorkerLoad(
        worker,
        [str(row["id"]) for row in rows if seen is None or row["id"] in seen],
        sum(row["cpu"] or 0 for row in rows),
        sum(row["ram_mb"] or 0 for row in rows),
        vram,
    )


def _live_attempt(run: Run, events: Sequence[RunEvent]) -> AttemptView:
    return AttemptView(run.current_attempt, run, run.worker_id, events)


def _visible_to(caller: Caller) -> RunQuerySet:
    return Run.objects.visible_to(caller.prefixes, caller.owner)
