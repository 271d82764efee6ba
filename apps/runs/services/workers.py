"""Workers that ask for runs, and what operators tell those of all kinds (runs.md §4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from apps.access import services as access
from apps.core import clock
from apps.core.errors import Conflict, Forbidden, NotFound
from apps.core.queue import nudge_on_commit
from apps.runs import scheduling, transitions
from apps.runs.models import Run, Worker
from apps.runs.scheduling import CLAIM_TASK
from apps.runs.states import HOLDS_RESOURCES, ExecutorName, WorkerKind, WorkerState

if TYPE_CHECKING:
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.runs.transitions import Batch

JSON = Any


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run given to a pull worker, and the lease its reports must carry."""

    run: Run
    lease: str


def heartbeat(
    *,
    worker_id: str,
    resources: dict[str, JSON],
    tags: list[str],
    running: list[UUID] | None,
    caller: Caller,
) -> dict[str, JSON]:
    """Register or refresh a pull worker; return the runs it must stop and when it counts as lost.

    What it says that it runs is believed (None = it does not say). A run that it no longer names has stopped if
    somebody asked to cancel it: it becomes CANCELLED. Otherwise the worker does not know of it, because the answer to
    its claim was lost or it was restarted: after GYOZA_LOST_SECONDS the run goes elsewhere.
    Raises Forbidden if the id belongs to another key's worker or to a worker of ours.
    """
    with transitions.batch() as moves:
        worker, is_new = Worker.objects.select_for_update(no_key=True).get_or_create(
            id=worker_id, defaults={"kind": WorkerKind.PULL, "owner": caller.owner}
        )
        _require_own(worker, caller)
        worker.executors = [name.value for name in ExecutorName]
        worker.cpu = resources.get("cpu") or 0
        worker.ram_mb = resources.get("ram_mb") or 0
        worker.gpus = resources.get("gpus") or []
        worker.tags = tags
        worker.save(update_fields=["executors", "cpu", "ram_mb", "gpus", "tags"])
        scheduling.beat_worker(worker_id)
        held = {run.id: run for run in scheduling.runs_held(worker_id)}
        if running is not None:
            _end_unnamed(moves, worker_id, [one for one in held if one not in running])
        if is_new:
            access.audit(caller=caller, action="worker.register", target=worker_id)
    named = held if running is None else running
    cancel = [one for one in named if one not in held or held[one].cancel_requested_at]
    expires = clock.now() + timedelta(seconds=settings.GYOZA_LOST_SECONDS)
    return {"cancel": [str(one) for one in cancel], "expires_at": clock.rfc3339(expires)}


def _end_unnamed(moves: Batch, worker_id: str, ids: list[UUID]) -> None:
    """End what a pull worker holds and does not say that it runs."""
    # A claim may be under way beside this heartbeat, or the worker be slow to note what it got.
    patience = moves.now - timedelta(seconds=settings.GYOZA_LOST_SECONDS)
    for live in [moves.lock(ids)[one] for one in ids]:
        if live.worker_id != worker_id or live.state not in HOLDS_RESOURCES:
            continue  # its end was reported meanwhile
        if live.cancel_requested_at is not None:
            transitions.cancel(moves, live, reason=live.cancel_reason)
        elif max(filter(None, (live.assigned_at, live.started_at))) < patience:
            transitions.lose(
                moves,
                live,
                error=f"worker {worker_id} does not know of it",
                max_losses=settings.GYOZA_MAX_LOSSES,
            )


def claim(*, worker_id: str, limit: int, caller: Caller) -> list[Claimed]:
    """Give a pull worker up to `limit` runs its key may see that fit its free resources. Raises NotFound, Forbidden."""
    with transitions.batch() as moves:
        registered = Worker.objects.filter(pk=worker_id).first()
        if registered is None:
            raise NotFound(f"no worker {worker_id}; send a heartbeat first", worker_id=worker_id)
        _require_own(registered, caller)
        worker = scheduling.beat_worker(worker_id)
        claims = (
            scheduling.claim(
                moves,
                worker,
                scheduling.runs_held(worker_id),
                limit=limit,
                sight=scheduling.Sight(caller.prefixes, caller.owner),
            )
            if worker
            else []
        )
    runs = Run.objects.in_bulk([claim.run_id for claim in claims])
    return [Claimed(runs[claim.run_id], claim.lease) for claim in claims]


def _require_own(worker: Worker, caller: Caller) -> None:
    if worker.kind != WorkerKind.PULL or worker.owner != caller.owner:
        raise Forbidden(f"worker {worker.id} is not yours", worker_id=worker.id)


def drain_worker(*, worker_id: str, caller: Caller) -> Worker:
    """Let a worker finish what it holds and claim nothing new. Raises NotFound, Conflict if it is lost."""
    return _set_worker_state(worker_id, WorkerState.DRAINING, caller, "worker.drain")


def resume_worker(*, worker_id: str, caller: Caller) -> Worker:
    """Let a draining worker claim again. Raises NotFound, Conflict if it is lost."""
    return _set_worker_state(worker_id, WorkerState.READY, caller, "worker.resume")


def _set_worker_state(worker_id: str, to: WorkerState, caller: Caller, action: str) -> Worker:
    with transaction.atomic():
        worker = Worker.objects.select_for_update(no_key=True).filter(pk=worker_id).first()
        if worker is None:
            raise NotFound(f"no worker {worker_id}", worker_id=worker_id)
        if worker.state == WorkerState.LOST:
            raise Conflict(f"worker {worker_id} is lost", worker_id=worker_id)
        transitions.set_worker_state(worker, to)
        access.audit(caller=caller, action=action, target=worker_id)
        nudge_on_commit(CLAIM_TASK)
    return worker
