"""What users and operators do with runs: stop them, try them again, change what may be changed (runs.md §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.access import services as access
from apps.core.errors import Conflict
from apps.core.queue import nudge_on_commit
from apps.runs import transitions
from apps.runs.backoff import (
    allows_another as allows_another,  # the rule of retries is for other apps, too
)
from apps.runs.backoff import delay_seconds as delay_seconds
from apps.runs.models import Run
from apps.runs.scheduling import CLAIM_TASK
from apps.runs.services.leases import lock_visible
from apps.runs.states import FINAL, RunState
from apps.storage import queries as storage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from apps.access.auth import Caller

JSON = Any


def cancel_run(*, run_id: UUID, caller: Caller, reason: str = "") -> Run:
    """Cancel a run: at once while it waits, else its op is asked to stop and the run moves when it has.

    Cancelling a cancelled run changes nothing. Raises NotFound, or IllegalTransition if the run is COMPLETED or
    FAILED.
    """
    why = reason or f"cancelled by {caller.name}"
    with transitions.batch() as moves:
        live = lock_visible(moves, run_id, caller)
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
    """Start the next attempt of a FAILED or CANCELLED run. Raises NotFound, IllegalTransition.

    Raises Conflict if its execution has ended: what it wrote would be refused. A retry of the execution takes the run up.
    """
    with transitions.batch() as moves:
        live = lock_visible(moves, run_id, caller)
        is_of_ended = live.execution_id is not None and storage.has_ended(live.execution_id)
        if is_of_ended and live.state in (RunState.FAILED, RunState.CANCELLED):
            raise Conflict(
                f"the execution {live.execution_id} of this run has ended: retry that",
                run_id=str(run_id),
                execution_id=str(live.execution_id),
            )
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
        live = lock_visible(moves, run_id, caller)
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
