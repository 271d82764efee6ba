"""The only writer of a run's state.

A batch locks runs, moves each with one of the verbs below, and writes them together: rows, timeline entries, attempts
left behind, log pieces and, as the last step, the feed records, all in the surrounding transaction. Lock order:
worker → run → topic (docs/explanation/locking.md).
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
from django.db import transaction

from apps.core import clock, jsonb, sql
from apps.core.errors import IllegalTransition, NotFound
from apps.core.sse import wakeups
from apps.runs import backoff
from apps.runs.live import Live, LogPiece, as_live, clean
from apps.runs.models import Run, Worker
from apps.runs.signals import runs_moved
from apps.runs.states import MOVES, EventType, RunState, WorkerState
from apps.topics import services as topics
from apps.topics.states import RecordKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

JSON = Any
S = RunState

_encode = msgspec.json.encode


class Batch:
    """Moves that are written together. Use `batch()`."""

    def __init__(self) -> None:
        self.now = clock.now()
        self._runs: dict[UUID, Live] = {}
        self._changed: set[UUID] = set()
        self._events: list[dict[str, JSON]] = []
        self._attempts: list[dict[str, JSON]] = []
        self._logs: list[LogPiece] = []
        self._feed: list[topics.NewEvent] = []
        # Executions of which a run has started, or ended.
        self._started_in: set[UUID] = set()
        self._ended_in: set[UUID] = set()

    def lock(self, ids: Iterable[UUID]) -> dict[UUID, Live]:
        """Lock the runs that exist and return them by id."""
        missing = [one for one in ids if one not in self._runs]
        if missing:
            for row in sql.run_bound("runs/lock_runs", ids=missing).rows:
                self.adopt(as_live(row))
        return self._runs

    @property
    def locked(self) -> Iterable[UUID]:
        """The runs of this batch: what the database says of them may be old."""
        return self._runs

    def adopt(self, live: Live) -> Live:
        """Take in a run whose row this transaction has locked already."""
        return self._runs.setdefault(live.id, live)

    def note(
        self, run: Live, type_: EventType, msg: str | int, payload: dict[str, JSON] | None = None
    ) -> dict[str, JSON]:
        """Add an entry to the timeline of the run's live attempt, and to its feed; return it."""
        entry: dict[str, JSON] = {
            "run_id": run.id,
            "attempt": run.current_attempt,
            "number": run.event_count,
            "at": self.now,
            "type": type_,
            "msg": clean(msg),
            "state": run.state,
            "payload": clean(payload or {}),
        }
        run.event_count += 1
        self._events.append(entry)
        self._changed.add(run.id)
        if run.topic:
            self._feed.append(_feed_record(run, entry))
        return entry

    def change(self, run: Live) -> None:
        """Remember that a column of the run was changed without an event."""
        self._changed.add(run.id)

    def append_log(self, piece: LogPiece) -> None:
        """Store a piece of a log together with the moves; a piece that is there already is left alone."""
        if piece.content:
            self._logs.append(piece)

    def archive(self, run: Live, *, state: RunState, error: str, exit_code: int | None) -> None:
        """Keep the attempt that the run now leaves behind."""
        self._attempts.append(
            {
                "run_id": run.id,
                "state": state,
                "progress": run.progress,
                "outputs_patch": run.more_outputs or None,
                "exit_code": exit_code,
                "error_message": clean(error),
                "started_at": run.started_at,
                "finished_at": run.finished_at or self.now,
            }
        )

    def started(self, run: Live) -> None:
        """Remember that the run has been started."""
        if run.execution_id is not None:
            self._started_in.add(run.execution_id)

    def ended(self, run: Live) -> None:
        """Remember that the run has become final."""
        if run.execution_id is not None:
            self._ended_in.add(run.execution_id)

    def write(self) -> None:
        """Write everything, topics last: their locks are held for the shortest time."""
        if not self._changed and not self._logs:
            return
        sql.run_bound(
            "runs/write_moves",
            runs=jsonb.encode([self._runs[one].row() for one in sorted(self._changed)]),
            attempts=jsonb.encode(self._attempts),
            events=jsonb.encode(self._events),
            log_runs=[piece.run_id for piece in self._logs],
            log_attempts=[piece.attempt for piece in self._logs],
            log_starts=[piece.start for piece in self._logs],
            log_contents=[piece.content for piece in self._logs],
            now=self.now,
        )
        touched = {entry["run_id"] for entry in self._events} | {p.run_id for p in self._logs}
        wakeups.announce_on_commit(*(f"run:{one}" for one in touched))
        if self._started_in or self._ended_in:
            transaction.on_commit(
                partial(
                    runs_moved.send_robust,
                    sender=Run,
                    ended_in=list(self._ended_in),
                    # Whoever looks because one has ended sees what has started.
                    started_in=list(self._started_in - self._ended_in),
                ),
                robust=True,
            )
        if self._feed:
            topics.append_events(self._feed)


@contextmanager
def batch() -> Iterator[Batch]:
    """Open a batch of moves in a transaction of its own or the surrounding one; it is written at the end."""
    with transaction.atomic():
        moves = Batch()
        yield moves
        moves.write()


def _feed_record(run: Live, entry: dict[str, JSON]) -> topics.NewEvent:
    attributes = msgspec.json.decode(run.attributes) if run.attributes != "{}" else {}
    data = {
        "run_id": run.id,
        "attempt": entry["attempt"],
        "type": entry["type"],
        "msg": entry["msg"],
        "t": clock.rfc3339(entry["at"]),
        "state": entry["state"],
        "payload": {**attributes, **entry["payload"]},
    }
    return topics.NewEvent(
        topic=run.topic,
        data=_encode(data).decode(),
        tag=f"run/{run.id}",
        node=None,
        meta=None,
        kind=RecordKind.RUN_EVENT,
    )


def _move(run: Live, to: RunState) -> None:
    if to not in MOVES[run.state]:
        raise IllegalTransition(
            f"a {run.state} run can't become {to}", run_id=str(run.id), state=run.state, to=to
        )
    run.state = to


def _release(run: Live) -> None:
    run.worker_id = run.lease = run.gpu = run.handle = None


# --- one verb per edge ---------------------------------------------------------------------------


def assign(moves: Batch, run: Live, *, worker_id: str, gpu: int | None) -> str:
    """PENDING → ASSIGNED: the worker holds the run under the lease that is returned."""
    _move(run, S.ASSIGNED)
    run.worker_id, run.gpu, run.lease = worker_id, gpu, uuid4().hex
    run.assigned_at, run.scheduled_at = moves.now, None
    payload: dict[str, JSON] = {"worker_id": worker_id}
    if gpu is not None:
        payload["gpu_id"] = gpu
    moves.note(run, EventType.ASSIGNED, f"claimed by {worker_id}", payload)
    return run.lease


def start(
    moves: Batch, run: Live, *, handle: JSON = None, payload: JSON = None, msg: str = ""
) -> None:
    """ASSIGNED → RUNNING: the executor has started the attempt; `handle` is where it finds it again."""
    _move(run, S.RUNNING)
    run.started_at = moves.now
    run.handle = None if handle is None else _encode(handle).decode()
    moves.started(run)
    moves.note(run, EventType.STARTED, msg or f"started on {run.worker_id}", payload)


def complete(
    moves: Batch,
    run: Live,
    *,
    outputs: dict[str, JSON],
    exit_code: int | None = None,
    msg: str = "",
    payload: JSON = None,
) -> None:
    """RUNNING → COMPLETED; `outputs` are added to those reported before."""
    _move(run, S.COMPLETED)
    run.progress, run.finished_at, run.exit_code = 100, moves.now, exit_code
    run.more_outputs.update(clean(outputs))
    run.losses = 0
    run.cancel_requested_at = None
    moves.note(run, EventType.COMPLETED, msg or "completed", payload)
    _release_keeping_worker(run)
    moves.ended(run)


def fail(
    moves: Batch,
    run: Live,
    *,
    error: str,
    exit_code: int | None = None,
    payload: JSON = None,
    is_permanent: bool = False,
) -> None:
    """RUNNING → FAILED, or → PENDING for the next attempt when the retry policy allows another.

    A run that somebody asked to cancel does not try again: it is CANCELLED. `is_permanent` = trying again would
    fail the same way.
    """
    if run.cancel_requested_at is not None:
        cancel(moves, run, reason=run.cancel_reason, exit_code=exit_code, payload=payload)
        return
    if run.state != S.RUNNING:
        _move(run, S.FAILED)  # raises: MOVES has no such edge
    run.failures += 1
    run.losses = 0
    policy = msgspec.json.decode(run.retry_policy)
    if not is_permanent and backoff.allows_another(policy, run.failures):
        delay = backoff.delay_seconds(policy, run.failures)
        moves.note(run, EventType.ERROR, error, {"exit_code": exit_code, **(payload or {})})
        _next_attempt(
            moves,
            run,
            error=error,
            exit_code=exit_code,
            due_at=moves.now + timedelta(seconds=delay),
            why=f"attempt {run.current_attempt} failed, next in {delay:.1f} s",
        )
        return
    _end_failed(moves, run, error=error, exit_code=exit_code, payload=payload)


def _end_failed(
    moves: Batch, run: Live, *, error: str, exit_code: int | None, payload: JSON = None
) -> None:
    _move(run, S.FAILED)
    run.finished_at, run.exit_code, run.error_message = moves.now, exit_code, clean(error)
    moves.note(run, EventType.FAILED, error, {"exit_code": exit_code, **(payload or {})})
    _release_keeping_worker(run)
    moves.ended(run)


def lose(moves: Batch, run: Live, *, error: str, max_losses: int, counts: bool = True) -> None:
    """Take a run back from a worker that is gone: ASSIGNED → PENDING, RUNNING → PENDING with a new attempt.

    The retry policy's attempts are not used up; after `max_losses` in a row the run FAILED. With `counts=False`
    (the worker left politely) the loss is not counted either.
    """
    if run.cancel_requested_at is not None:
        cancel(moves, run, reason=run.cancel_reason)
        return
    if run.state == S.ASSIGNED:
        _move(run, S.PENDING)
        _release(run)
        run.assigned_at, run.queued_at = None, moves.now
        moves.note(run, EventType.INFO, f"released: {error}")
        return
    run.losses += counts
    if run.losses >= max_losses:
        _end_failed(
            moves, run, error=f"{error}; {run.losses} workers were lost in a row", exit_code=None
        )
        return
    moves.note(run, EventType.ERROR, error)
    _next_attempt(moves, run, error=error, exit_code=None, due_at=None, why=error)


def cancel(
    moves: Batch, run: Live, *, reason: str, exit_code: int | None = None, payload: JSON = None
) -> None:
    """PENDING, ASSIGNED or RUNNING → CANCELLED."""
    _move(run, S.CANCELLED)
    run.finished_at, run.exit_code = moves.now, exit_code
    run.scheduled_at = None
    said = {"exit_code": exit_code, **(payload or {})}
    moves.note(run, EventType.CANCELLED, reason or "cancelled", said)
    _release_keeping_worker(run)
    moves.ended(run)


def request_cancel(moves: Batch, run: Live, *, reason: str) -> None:
    """Ask the worker of a RUNNING run to stop it; the run moves when the worker reports that it has."""
    if run.cancel_requested_at is None:
        run.cancel_requested_at, run.cancel_reason = moves.now, clean(reason)
        moves.note(run, EventType.INFO, f"cancel requested: {reason}")


def reopen(moves: Batch, run: Live, *, reason: str) -> None:
    """FAILED or CANCELLED → PENDING: the next attempt, with the retry policy and the losses counted from zero."""
    if run.state not in (S.FAILED, S.CANCELLED):
        _move(run, S.PENDING)  # raises unless MOVES has the edge
        raise IllegalTransition(
            f"a {run.state} run can't be retried", run_id=str(run.id), state=run.state, to=S.PENDING
        )
    run.failures = run.losses = 0
    _next_attempt(
        moves, run, error=run.error_message, exit_code=run.exit_code, due_at=None, why=reason
    )


def progress(moves: Batch, run: Live, percent: int, payload: JSON = None) -> JSON:
    """Note how far the attempt is, 0–100."""
    run.progress = percent
    return moves.note(run, EventType.PROGRESS, percent, payload)


def add_outputs(moves: Batch, run: Live, outputs: dict[str, JSON]) -> None:
    """Add outputs of the running attempt."""
    run.more_outputs.update(clean(outputs))
    moves.change(run)


def _next_attempt(
    moves: Batch, run: Live, *, error: str, exit_code: int | None, due_at: datetime | None, why: str
) -> None:
    left = S.CANCELLED if run.state == S.CANCELLED else S.FAILED
    moves.archive(run, state=left, error=error, exit_code=exit_code)
    _move(run, S.PENDING)
    _release(run)
    run.current_attempt += 1
    run.event_count = run.progress = run.message_offset = 0
    run.new_outputs, run.more_outputs, run.outputs = {}, {}, "{}"
    run.queued_at, run.scheduled_at = moves.now, due_at
    run.assigned_at = run.started_at = run.finished_at = run.exit_code = None
    run.cancel_requested_at, run.cancel_reason, run.error_message = None, "", ""
    payload = {"scheduled_at": clock.rfc3339(due_at)} if due_at else {}
    moves.note(run, EventType.RETRIED, why, payload)


def _release_keeping_worker(run: Live) -> None:
    """Drop the lease of a final run; worker and GPU stay for its summary."""
    run.lease = run.handle = None


def get_live(moves: Batch, run_id: UUID) -> Live:
    """Lock one run. Raises NotFound."""
    run = moves.lock([run_id]).get(run_id)
    if run is None:
        raise NotFound(f"no run {run_id}", run_id=str(run_id))
    return run


def set_worker_state(worker: Worker, to: WorkerState) -> None:
    """Let a worker claim (READY) or not (DRAINING), or say that it has gone (LOST)."""
    worker.state = to
    worker.save(update_fields=["state"])
