"""What can be done with runs and workers: one function per intention (runs.md §2, §4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import transaction

from apps.access import services as access
from apps.core import clock, ids
from apps.core.body import is_integer
from apps.core.errors import Conflict, Forbidden, Invalid, NotFound
from apps.core.queue import nudge_on_commit
from apps.definitions import services as definitions
from apps.runs import scheduling, transitions
from apps.runs.backoff import (
    allows_another as allows_another,  # the rule of retries is for other apps, too
)
from apps.runs.backoff import delay_seconds as delay_seconds
from apps.runs.creation import insert_runs, stored_run
from apps.runs.live import clean as clean
from apps.runs.models import Run, RunEvent, Worker
from apps.runs.states import (
    FINAL,
    HOLDS_RESOURCES,
    EventType,
    ExecutorName,
    RunState,
    WorkerKind,
    WorkerState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.access.auth import Caller
    from apps.definitions.models import Definition
    from apps.runs.live import Live
    from apps.runs.transitions import Batch

JSON = Any
CLAIM_TASK = "runs.claim_runs"


class StaleLease(Conflict):
    """The lease or attempt is not the run's present one: the work was given to somebody else."""

    code = "stale_lease"


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be made, validated: everything is copied into the run."""

    image: str | None = None
    command: list[str] | None = None
    python: str | None = None
    env: dict[str, str] = {}
    inputs: dict[str, JSON] = {}
    output_specs: dict[str, JSON] = {}
    op_definition: str | None = None
    op_version: str | None = None
    cpu: int | None = None
    ram_mb: int | None = None
    vram_mb: int | None = None
    gpu_id: int | None = None
    tags: list[str] = []
    retry_policy: dict[str, JSON] = {}
    topic: str = ""
    attributes: dict[str, JSON] = {}
    timeout_s: float | None = 3600
    priority: int = 5
    metadata: dict[str, JSON] = {}
    scheduled_at: datetime | None = None
    execution_id: UUID | None = None
    step: str | None = None
    # What its files become objects of (pipelines-storage.md §4).
    stage: str | None = None

    @property
    def executor(self) -> ExecutorName:
        if self.image is not None:
            return ExecutorName.DOCKER
        return ExecutorName.PROCESS if self.python is None else ExecutorName.PYTHON


def spec_of(definition: Definition) -> RunSpec:
    """Return a run of a definition as the definition alone says it, without inputs."""
    needs, delivery = definition.constraints, definition.event_delivery
    return RunSpec(
        image=definition.image,
        command=definition.command,
        python=definition.python,
        env=definition.env,
        output_specs=definition.output_specs,
        op_definition=definition.name,
        op_version=definition.version,
        cpu=needs["cpu"],
        ram_mb=needs["ram_mb"],
        vram_mb=needs["vram_mb"],
        gpu_id=needs["gpu_id"],
        tags=needs["tags"],
        retry_policy=definition.retry_policy,
        topic=delivery["topic"],
        attributes=delivery["attributes"],
        timeout_s=definition.timeout_s,
    )


def create_runs(*, requests: Sequence[RunSpec], owner: str) -> list[Run]:
    """Do as `add_runs`, and return the runs."""
    rows = _new_rows(requests, owner)
    _store(rows)
    return [stored_run(row) for row in rows]


def add_runs(*, requests: Sequence[RunSpec], owner: str) -> list[UUID]:
    """Store new PENDING runs, all or none, and wake the workers once they are committed; return their ids.

    `owner` is whom they belong to: `Caller.owner`.
    """
    rows = _new_rows(requests, owner)
    _store(rows)
    return [row["id"] for row in rows]


def _new_rows(requests: Sequence[RunSpec], owner: str) -> list[dict[str, JSON]]:
    now = clock.now()
    return [
        {
            **msgspec.structs.asdict(spec),
            "id": ids.uuid7(),
            "executor": spec.executor,
            "created_by": owner,
            "created_at": now,
            "updated_at": now,
            "queued_at": now,
        }
        for spec in requests
    ]


def _store(rows: Sequence[dict[str, JSON]]) -> None:
    # Without a savepoint of its own: a caller's transaction fails as a whole.
    with transaction.atomic(savepoint=False):
        insert_runs(rows)
        containers = [row["id"] for row in rows if row["executor"] == ExecutorName.DOCKER]
        if containers and not _offered(ExecutorName.DOCKER):
            with transitions.batch() as moves:
                for live in moves.lock(containers).values():
                    moves.note(live, EventType.INFO, "waiting: no worker offers containers")
        nudge_on_commit(CLAIM_TASK)


def _offered(executor: ExecutorName) -> bool:
    return (
        Worker.objects.exclude(state=WorkerState.LOST)
        .filter(executors__contains=[executor.value])
        .exists()
    )


def cancel_run(*, run_id: UUID, caller: Caller, reason: str = "") -> Run:
    """Cancel a run: at once while it waits, else its op is asked to stop and the run moves when it has.

    Cancelling a cancelled run changes nothing. Raises NotFound, or IllegalTransition if the run is COMPLETED or
    FAILED.
    """
    why = reason or f"cancelled by {caller.name}"
    with transitions.batch() as moves:
        live = _visible(moves, run_id, caller)
        if live.state == RunState.CANCELLED:
            return Run.objects.get(pk=run_id)
        if live.state == RunState.RUNNING:
            transitions.request_cancel(moves, live, reason=why)
        else:
            transitions.cancel(moves, live, reason=why)
        access.audit(caller=caller, action="run.cancel", target=str(run_id), reason=reason)
        # Workers look for what they must stop whenever they are woken.
        nudge_on_commit(CLAIM_TASK)
    return Run.objects.get(pk=run_id)


def stop_runs(*, run_ids: Sequence[UUID], reason: str) -> None:
    """Cancel those of the runs that have not ended, as `cancel_run` does, for whoever they belong to."""
    with transitions.batch() as moves:
        for live in [one for run_id, one in moves.lock(run_ids).items() if run_id in set(run_ids)]:
            if live.state == RunState.RUNNING:
                transitions.request_cancel(moves, live, reason=reason)
            elif live.state not in FINAL:
                transitions.cancel(moves, live, reason=reason)
        nudge_on_commit(CLAIM_TASK)


def reopen_runs(*, run_ids: Sequence[UUID], reason: str) -> None:
    """Start the next attempt of those of the runs that are FAILED or CANCELLED."""
    with transitions.batch() as moves:
        for live in [one for run_id, one in moves.lock(run_ids).items() if run_id in set(run_ids)]:
            if live.state in (RunState.FAILED, RunState.CANCELLED):
                transitions.reopen(moves, live, reason=reason)
        nudge_on_commit(CLAIM_TASK)


def retry_run(*, run_id: UUID, caller: Caller) -> Run:
    """Start the next attempt of a FAILED or CANCELLED run. Raises NotFound or IllegalTransition."""
    with transitions.batch() as moves:
        live = _visible(moves, run_id, caller)
        transitions.reopen(moves, live, reason=f"retried by {caller.name}")
        access.audit(caller=caller, action="run.retry", target=str(run_id))
        nudge_on_commit(CLAIM_TASK)
    return Run.objects.get(pk=run_id)


def update_run(
    *,
    run_id: UUID,
    caller: Caller,
    priority: int | None = None,
    metadata: dict[str, JSON] | None = None,
) -> Run:
    """Change the priority of an unfinished run, or the metadata of any. Raises NotFound or Conflict."""
    with transitions.batch() as moves:
        live = _visible(moves, run_id, caller)
        changes: dict[str, JSON] = {"updated_at": moves.now}
        if priority is not None:
            if live.state in FINAL:
                raise Conflict(f"a {live.state} run has no priority any more", run_id=str(run_id))
            changes["priority"] = priority
        if metadata is not None:
            changes["metadata"] = metadata
        Run.objects.filter(pk=run_id).update(**changes)
        access.audit(caller=caller, action="run.update", target=str(run_id), priority=priority)
        nudge_on_commit(CLAIM_TASK)
    return Run.objects.get(pk=run_id)


# --- what an executing worker reports ------------------------------------------------------------


def report(
    *,
    run_id: UUID,
    caller: Caller,
    attempt: int,
    lease: str | None,
    type: EventType,
    msg: str | int = "",
    payload: dict[str, JSON] | None = None,
    outputs: dict[str, JSON] | None = None,
) -> RunEvent:
    """Take an event from the worker that holds the run; state-changing types move the run.

    An op reports on its own attempt without a lease (None): its token is good for as long as the attempt.
    Raises NotFound, StaleLease when the attempt or the lease is not the present one, IllegalTransition.
    """
    with transitions.batch() as moves:
        live = _visible(moves, run_id, caller)
        check_lease(live, attempt=attempt, lease=lease)
        number = live.event_count
        _apply(moves, live, type, msg, payload or {}, outputs)
    nothing_fits_any_more = type in (EventType.STARTED, EventType.INFO, EventType.PROGRESS)
    if not nothing_fits_any_more:
        nudge_on_commit(CLAIM_TASK)
    return RunEvent.objects.get(run_id=run_id, attempt=attempt, number=number)


def report_outputs(
    *, run_id: UUID, caller: Caller, attempt: int, lease: str | None, outputs: dict[str, JSON]
) -> Run:
    """Add outputs to the attempt a worker executes. Raises NotFound, StaleLease."""
    with transitions.batch() as moves:
        live = _visible(moves, run_id, caller)
        check_lease(live, attempt=attempt, lease=lease)
        transitions.add_outputs(moves, live, outputs)
    return Run.objects.get(pk=run_id)


def check_lease(live: Live, *, attempt: int, lease: str | None) -> None:
    """Raise StaleLease unless the report comes from whoever holds the run now; None = from the op itself."""
    is_held = live.state in HOLDS_RESOURCES and live.current_attempt == attempt
    if not is_held or lease not in (None, live.lease):
        raise StaleLease(
            "this attempt is no longer yours",
            run_id=str(live.id),
            state=live.state,
            current_attempt=live.current_attempt,
        )


def _apply(
    moves: Batch,
    live: Live,
    type_: EventType,
    msg: str | int,
    payload: dict[str, JSON],
    outputs: dict[str, JSON] | None,
) -> None:
    if outputs and type_ != EventType.COMPLETED:
        transitions.add_outputs(moves, live, outputs)
    match type_:
        case EventType.STARTED:
            transitions.start(moves, live, msg=str(msg), payload=payload)
        case EventType.PROGRESS:
            transitions.progress(moves, live, int(msg), payload)
        case EventType.INFO | EventType.ERROR:
            moves.note(live, type_, msg, payload)
        case EventType.COMPLETED:
            finish(
                moves,
                live,
                outputs=outputs or {},
                exit_code=_exit_code(payload),
                msg=str(msg),
                payload=payload,
            )
        case EventType.FAILED:
            code = _exit_code(payload)
            transitions.fail(
                moves, live, error=str(msg) or "failed", exit_code=code, payload=payload
            )
        case EventType.CANCELLED:
            why, code = str(msg) or live.cancel_reason, _exit_code(payload)
            transitions.cancel(moves, live, reason=why, exit_code=code, payload=payload)
        case _:
            raise Invalid.of([("type", f"{type_} is not for workers to report")])


def _exit_code(payload: dict[str, JSON]) -> int | None:
    """Return the exit status that a worker tells in the payload of an end; None for what can't be one."""
    code: JSON = payload.get("exit_code", "")
    return code if is_integer(code) and abs(code) < 2**31 else None


def finish(
    moves: Batch,
    live: Live,
    *,
    outputs: dict[str, JSON],
    exit_code: int | None,
    msg: str = "",
    payload: JSON = None,
) -> None:
    """End a run whose op succeeded: COMPLETED, or a failed attempt if the outputs break output_specs."""
    if live.output_specs != "{}":
        everything = msgspec.json.decode(live.outputs or "{}") | live.more_outputs | outputs
        wrong = definitions.check_outputs(msgspec.json.decode(live.output_specs), everything)
        if wrong:
            listed = "; ".join(f"{name}: {message}" for name, message in wrong)
            transitions.add_outputs(moves, live, outputs)
            transitions.fail(
                moves,
                live,
                error=f"outputs break output_specs: {listed}",
                exit_code=exit_code,
                payload=payload,
            )
            return
    transitions.complete(
        moves, live, outputs=outputs, exit_code=exit_code, msg=msg, payload=payload
    )


# --- workers -------------------------------------------------------------------------------------


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


def _visible(moves: Batch, run_id: UUID, caller: Caller) -> Live:
    if not Run.objects.visible_to(caller.prefixes, caller.owner).filter(pk=run_id).exists():
        raise NotFound(f"no run {run_id}", run_id=str(run_id))
    live = transitions.get_live(moves, run_id)
    if caller.attempt is not None:
        check_lease(live, attempt=caller.attempt, lease=None)
    return live
