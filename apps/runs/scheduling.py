"""Who gets which run: heartbeats, claims, lost workers (runs.md §4). All inside a `transitions.Batch`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings

from apps.core import sql
from apps.runs import transitions
from apps.runs.live import as_live
from apps.runs.placement import Capacity, Demand, place
from apps.runs.states import HOLDS_RESOURCES, ExecutorName, WorkerState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from apps.runs.models import Run
    from apps.runs.transitions import Batch

# By which workers are told that there may be something to claim, or to stop.
CLAIM_TASK = "runs.claim_runs"
# How often a claim looks for as many candidates as it has slots: some of them may not fit beside each other. What it
# has looked at stays locked, so it doesn't look at more than it could take.
LOOKS = 2
# A pull worker may set no limit on its runs; one claim still has one.
MOST_PER_CLAIM = 1000
# Among how many runs that a worker could hold one is looked for that starves: as many as a claim may look at.
MOST_FRONT = LOOKS * MOST_PER_CLAIM


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as its heartbeat found it; its row is locked until the transaction ends."""

    id: str
    state: WorkerState
    executors: list[str]
    total: Capacity
    tags: list[str]


@dataclass(frozen=True, slots=True)
class Sight:
    """Which runs a worker may be given: those its key may see; by default all."""

    prefixes: tuple[str, ...] = ()
    owner: str = ""


EVERYTHING = Sight()


@dataclass(frozen=True, slots=True)
class HeldRun:
    """A run a worker holds, and whether somebody asked to cancel it."""

    id: UUID
    attempt: int
    lease: str
    cancel_requested_at: datetime | None
    demand: Demand
    gpu: int | None

    @property
    def attempt_id(self) -> str:
        return attempt_id(self.id, self.attempt, self.lease)


@dataclass(frozen=True, slots=True)
class Claim:
    """A run a worker has just been given: what to execute, under which lease."""

    run_id: UUID
    attempt: int
    lease: str
    executor: str
    image: str | None
    command: list[str] | None
    python: str | None
    env: dict[str, str]
    inputs_json: bytes
    timeout_s: float | None
    cpu: int | None
    ram_mb: int | None
    gpu: int | None
    execution_id: UUID | None
    stage: str | None

    @property
    def attempt_id(self) -> str:
        return attempt_id(self.run_id, self.attempt, self.lease)


def attempt_id(run_id: UUID, attempt: int, lease: str) -> str:
    """Return the name under which workers and executors know an attempt."""
    return f"{run_id}-{attempt}-{lease}"


def register_worker(**offer: Any) -> bool:
    """Register a worker of ours, or refresh what it offers; False if a live worker of another place has its name."""
    gpus = msgspec.json.encode(offer.pop("gpus")).decode()
    return bool(sql.run("runs/register_worker", gpus=gpus, **offer).rows)


def beat_worker(worker_id: str, *, instance: str = "") -> WorkerRow | None:
    """Note that the worker is alive, lock its row and return it; None if it is not registered, or is another's."""
    rows = sql.run_bound("runs/beat_worker", worker_id=worker_id, instance=instance).rows
    if not rows:
        return None
    row = rows[0]
    gpus = msgspec.json.decode(row["gpus"])
    slots = MOST_PER_CLAIM if row["slots"] is None else row["slots"]
    return WorkerRow(
        id=row["id"],
        state=WorkerState(row["state"]),
        executors=row["executors"],
        total=Capacity(
            slots, row["cpu"], row["ram_mb"], {gpu["id"]: gpu["vram_mb"] for gpu in gpus}
        ),
        tags=row["tags"],
    )


def runs_held(worker_id: str) -> list[HeldRun]:
    """Return the runs that the worker holds now."""
    return [
        HeldRun(
            row["id"],
            row["current_attempt"],
            row["lease"],
            row["cancel_requested_at"],
            _demand(row),
            row["gpu"],
        )
        for row in sql.run_bound("runs/runs_held", worker_id=worker_id).rows
    ]


def claim(
    moves: Batch,
    worker: WorkerRow,
    held: Sequence[HeldRun],
    *,
    limit: int,
    ahead: int = 0,
    sight: Sight = EVERYTHING,
) -> list[Claim]:
    """Assign to the worker up to `limit` waiting runs within its `sight` that fit beside those it holds.

    Highest priority first, then oldest. A big run that fits nowhere now does not block those behind it; once it
    has waited GYOZA_STARVATION_SECONDS, workers that could hold it when empty take nothing from behind it.
    With its slots full, the worker also gets up to `ahead` python runs that begin as soon as others end.
    """
    if worker.state != WorkerState.READY:
        return []
    free = worker.total.minus((run.demand, run.gpu) for run in held)
    claims = []
    room = free.slots
    free.slots = min(room, limit)
    if free.slots > 0:
        claims = _claim_some(moves, worker, free, worker.executors, sight)
        room -= len(claims)
    if ahead and room <= 0 and ExecutorName.PYTHON in worker.executors:
        free.slots = room + ahead
        if free.slots > 0:
            claims += _claim_some(moves, worker, free, [ExecutorName.PYTHON], sight)
    return claims


def _claim_some(
    moves: Batch, worker: WorkerRow, free: Capacity, executors: Sequence[str], sight: Sight
) -> list[Claim]:
    starving = None
    if (free.cpu, free.ram_mb, free.vram_mb) != (
        worker.total.cpu,
        worker.total.ram_mb,
        worker.total.vram_mb,
    ):
        # Otherwise nothing that the worker could hold when empty fails to fit now.
        starving = _find_starving_run(moves, worker, free, sight)
    claims: list[Claim] = []
    looked_at: list[UUID] = []
    for _ in range(LOOKS):
        wanted = free.slots
        rows = sql.run_bound(
            "runs/claim_candidates",
            now=moves.now,
            taken=[*moves.locked, *looked_at],
            executors=list(executors),
            tags=worker.tags,
            cpu=free.cpu,
            ram_mb=free.ram_mb,
            gpu_ids=list(free.vram_mb),
            vram_frees=list(free.vram_mb.values()),
            prefixes=list(sight.prefixes),
            owner=sight.owner,
            starving_id=starving["id"] if starving else None,
            starving_priority=starving["priority"] if starving else None,
            limit=wanted,
        ).rows
        by_id = {row["id"]: row for row in rows}
        for placed in place([_demand(row) for row in rows], free):
            row = by_id[placed.run_id]
            live = moves.adopt(as_live(row))
            lease = transitions.assign(moves, live, worker_id=worker.id, gpu=placed.gpu)
            claims.append(_claim_of(row, lease, placed.gpu))
        looked_at += by_id
        if free.slots < 1 or len(rows) < wanted:
            break
    return claims


def lose_workers() -> list[str]:
    """Mark workers silent for GYOZA_LOST_SECONDS as lost and take their runs back; return the workers."""
    with transitions.batch() as moves:
        rows = sql.run("runs/lost_workers", lost_seconds=settings.GYOZA_LOST_SECONDS).rows
        lost = [row["id"] for row in rows]
        held = [run.id for worker_id in lost for run in runs_held(worker_id)]
        for live in [moves.lock(held)[one] for one in held]:
            # A report may have ended the run between the look and the lock.
            if live.state in HOLDS_RESOURCES and live.worker_id in lost:
                transitions.lose(
                    moves,
                    live,
                    error=f"worker {live.worker_id} was lost",
                    max_losses=settings.GYOZA_MAX_LOSSES,
                )
    return lost


def _find_starving_run(
    moves: Batch, worker: WorkerRow, free: Capacity, sight: Sight
) -> dict[str, Any] | None:
    gpu_ids = list(worker.total.vram_mb)
    rows = sql.run(
        "runs/find_starving_run",
        waiting_since=moves.now - timedelta(seconds=settings.GYOZA_STARVATION_SECONDS),
        executors=worker.executors,
        tags=worker.tags,
        cpu_total=worker.total.cpu,
        ram_mb_total=worker.total.ram_mb,
        cpu_free=free.cpu,
        ram_mb_free=free.ram_mb,
        gpu_ids=gpu_ids,
        vram_totals=[worker.total.vram_mb[one] for one in gpu_ids],
        vram_frees=[free.vram_mb[one] for one in gpu_ids],
        prefixes=list(sight.prefixes),
        owner=sight.owner,
        most=MOST_FRONT,
    ).rows
    return rows[0] if rows else None


def _demand(row: dict[str, Any]) -> Demand:
    return Demand(row["id"], row["cpu"], row["ram_mb"], row["vram_mb"], row["gpu_id"])


def _claim_of(row: dict[str, Any], lease: str, gpu: int | None) -> Claim:
    return Claim(
        run_id=row["id"],
        attempt=row["current_attempt"],
        lease=lease,
        executor=row["executor"],
        image=row["image"],
        command=row["command"],
        python=row["python"],
        env=msgspec.json.decode(row["env"]),
        inputs_json=row["inputs"].encode(),
        timeout_s=row["timeout_s"],
        cpu=row["cpu"],
        ram_mb=row["ram_mb"],
        gpu=gpu,
        execution_id=row["execution_id"],
        stage=row["stage"],
    )


def lock_lease(run_id: UUID, *, attempt: int, lease: str) -> bool:
    """Lock a run until the transaction ends, and say whether it is still held under this lease."""
    held = sql.run_bound("runs/lock_lease", run_id=run_id, attempt=attempt, lease=lease)
    return bool(held.rows)


def claim_of(run: Run) -> Claim:
    """Return what the worker that holds a run was given when it claimed it."""
    return Claim(
        run_id=run.id,
        attempt=run.current_attempt,
        lease=run.lease or "",
        executor=run.executor,
        image=run.image,
        command=run.command,
        python=run.python,
        env=run.env,
        inputs_json=msgspec.json.encode(run.inputs),
        timeout_s=run.timeout_s,
        cpu=run.cpu,
        ram_mb=run.ram_mb,
        gpu=run.gpu,
        execution_id=run.execution_id,
        stage=run.stage,
    )
