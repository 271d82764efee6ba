"""One turn of a worker of ours: alive, what happened, what must stop, what is new, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.runs import scheduling, transitions
from apps.runs.live import Live, LogPiece
from apps.runs.models import Worker
from apps.runs.services import reports
from apps.runs.states import EventType, RunState, WorkerState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from apps.runs.scheduling import Claim, HeldRun
    from apps.runs.transitions import Batch

JSON = Any


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the op: progress (value 0–100), info (msg, payload) or output (name, value)."""

    kind: str
    value: JSON = None
    msg: str = ""
    payload: dict[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended. `error` empty = success; `stopped` = because the worker asked it to."""

    outputs: dict[str, JSON]
    exit_code: int | None
    error: str
    stopped: bool
    # Trying again would end the same way (the op can't be started at all).
    permanent: bool = False
    # Its supervisor vanished: nobody knows how the op itself ended.
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker has to tell about one attempt since its last turn."""

    run_id: UUID
    attempt: int
    lease: str
    handle: JSON = None  # set when the attempt has been started
    said: Sequence[Said] = ()
    message_offset: int = 0
    log_start: int = 0
    log: bytes = b""
    ended: Ended | None = None
    given_back: str = ""  # why the worker gives the run back unfinished

    @property
    def attempt_id(self) -> str:
        return scheduling.attempt_id(self.run_id, self.attempt, self.lease)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a worker holds after its turn, what it was given, and which reports came too late."""

    state: WorkerState
    held: dict[UUID, HeldRun]
    claims: list[Claim]
    refused: list[Report]


LOG_PIECE_BYTES = 256 * 1024


def register_worker(
    *,
    worker_id: str,
    executors: list[str],
    slots: int,
    cpu: int,
    ram_mb: int,
    gpus: list[dict[str, int]],
    tags: list[str],
    hostname: str,
    instance: str = "",
) -> bool:
    """Register a worker of ours, or refresh what it offers after a restart.

    `instance` names the place it runs in; while a worker of another place has the name, nothing is done and False
    returned.
    """
    return scheduling.register_worker(
        worker_id=worker_id,
        instance=instance,
        executors=executors,
        slots=slots,
        cpu=cpu,
        ram_mb=ram_mb,
        gpus=gpus,
        tags=tags,
        hostname=hostname,
    )


def take_turn(
    *,
    worker_id: str,
    reports: Sequence[Report],
    limit: int,
    ahead: int = 0,
    instance: str = "",
) -> Turn:
    """Note that the worker is alive, write its reports, and give it up to `limit` new runs, and `ahead` of need.

    A report whose lease is no longer the run's is refused and changes nothing: the worker stops that op.
    """
    with transitions.batch() as moves:
        # First the worker, then runs: the lock order of the sweep that would declare it lost.
        worker = scheduling.beat_worker(worker_id, instance=instance)
        refused = _write_reports(moves, worker_id, reports)
        held = scheduling.runs_held(worker_id) if worker else []
        done = {r.run_id for r in reports if r.ended or r.given_back}
        held = [run for run in held if run.id not in done]
        claims = scheduling.claim(moves, worker, held, limit=limit, ahead=ahead) if worker else []
    return Turn(
        state=worker.state if worker else WorkerState.LOST,
        held={run.id: run for run in held},
        claims=claims,
        refused=refused,
    )


def leave(*, worker_id: str, instance: str = "") -> None:
    """Say that a worker of ours has stopped in an orderly way: what it still holds goes back at once."""
    with transitions.batch() as moves:
        worker = (
            Worker.objects.select_for_update(no_key=True)
            .filter(pk=worker_id, instance=instance)
            .first()
        )
        if worker is None:
            return
        held = [run.id for run in scheduling.runs_held(worker_id)]
        for live in [moves.lock(held)[one] for one in held]:
            if live.worker_id == worker_id and live.state in (RunState.ASSIGNED, RunState.RUNNING):
                _give_back(moves, live, "the worker was shut down")
        transitions.set_worker_state(worker, WorkerState.LOST)


def _write_reports(moves: Batch, worker_id: str, reports: Sequence[Report]) -> list[Report]:
    lives = moves.lock(sorted({report.run_id for report in reports})) if reports else {}
    refused = []
    for report in reports:
        live = lives.get(report.run_id)
        if (
            live is None
            or live.lease != report.lease
            or live.worker_id != worker_id
            or live.current_attempt != report.attempt
        ):
            refused.append(report)
            continue
        _write_report(moves, live, report)
    return refused


def _write_report(moves: Batch, live: Live, report: Report) -> None:
    if report.handle is not None and live.state == RunState.ASSIGNED:
        transitions.start(moves, live, handle=report.handle)
    if report.message_offset > live.message_offset:
        for said in report.said:
            _write_said(moves, live, said)
        live.message_offset = report.message_offset
        moves.change(live)
    for offset in range(0, len(report.log), LOG_PIECE_BYTES):
        moves.append_log(
            LogPiece(
                live.id,
                live.current_attempt,
                report.log_start + offset,
                report.log[offset : offset + LOG_PIECE_BYTES],
            )
        )
    if report.given_back:
        _give_back(moves, live, report.given_back)
    elif report.ended is not None:
        _write_end(moves, live, report.ended)


def _write_said(moves: Batch, live: Live, said: Said) -> None:
    if said.kind == "progress":
        transitions.progress(moves, live, int(said.value))
    elif said.kind == "info":
        moves.note(live, EventType.INFO, said.msg, said.payload)
    else:
        transitions.add_outputs(moves, live, {said.msg: said.value})


def _write_end(moves: Batch, live: Live, ended: Ended) -> None:
    if live.state == RunState.ASSIGNED:
        # It could not even be started: RUNNING is passed through, so that the timeline stays a legal one.
        transitions.start(moves, live, msg="could not be started")
    if ended.stopped and live.cancel_requested_at is not None:
        transitions.add_outputs(moves, live, ended.outputs)
        transitions.cancel(moves, live, reason=live.cancel_reason, exit_code=ended.exit_code)
    elif ended.lost or ended.stopped:
        # Stopped though nobody asked: by a worker that was leaving and was killed before it could give the run back.
        transitions.lose(moves, live, error=ended.error, max_losses=settings.GYOZA_MAX_LOSSES)
    elif ended.error:
        transitions.add_outputs(moves, live, ended.outputs)
        transitions.fail(
            moves, live, error=ended.error, exit_code=ended.exit_code, is_permanent=ended.permanent
        )
    else:
        reports.finish(moves, live, outputs=ended.outputs, exit_code=ended.exit_code)


def _give_back(moves: Batch, live: Live, why: str) -> None:
    transitions.lose(moves, live, error=why, max_losses=settings.GYOZA_MAX_LOSSES, counts=False)
