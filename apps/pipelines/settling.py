"""What an execution's end means to others: its parent goes on, its trigger counts, queued ones begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from apps.core import clock
from apps.core.queue import nudge_on_commit
from apps.pipelines import deadletters, documents, starting, transitions
from apps.pipelines.models import Execution, Trigger
from apps.pipelines.states import ExecutionStatus

if TYPE_CHECKING:
    from uuid import UUID


def settle_execution(execution_id: UUID) -> None:
    """Tell whoever waited for an execution that it has ended; once."""
    found = Execution.objects.filter(pk=execution_id, is_settled=False).values("source_id").first()
    if found is None:
        return
    with transaction.atomic():
        # The trigger first: the order of the dispatcher.
        trigger = None
        if found["source_id"] is not None:
            trigger = (
                Trigger.objects.select_for_update(no_key=True).filter(pk=found["source_id"]).first()
            )
        execution = (
            Execution.objects.select_for_update(no_key=True)
            .filter(pk=execution_id, is_settled=False)
            .first()
        )
        if execution is None:
            return
        Execution.objects.filter(pk=execution_id).update(is_settled=True)
        if execution.parent_id is not None and execution.parent_stage is not None:
            Execution.objects.filter(pk=execution.parent_id, status=ExecutionStatus.RUNNING).update(
                wake_at=clock.now()
            )
            nudge_on_commit(transitions.ADVANCE_TASK)
        if trigger is not None:
            _count(trigger, execution)
            nudge_on_commit(starting.DISPATCH_TASK)
    starting.release_queued(execution.pipeline_id)


def _count(trigger: Trigger, execution: Execution) -> None:
    """Note on a trigger how one of its executions has ended; a message whose execution failed becomes a dead letter."""
    trigger.succeeded += execution.status == ExecutionStatus.COMPLETED
    trigger.retried += execution.attempt - 1
    if execution.status == ExecutionStatus.FAILED:
        reason = (execution.error_info or {}).get("message", "failed")
        trigger.failed += 1
        trigger.last_error = reason
    trigger.save()
    if execution.status == ExecutionStatus.FAILED and execution.source_seq is not None:
        rules = documents.plan_of(execution.document).trigger
        letter = deadletters.Letter(
            to=rules.dead_letter,
            seq=execution.source_seq,
            text=execution.trigger or "null",
            reason=reason,
            attempts=execution.attempt,
            execution_id=execution.id,
        )
        deadletters.write(trigger, [letter])
        trigger.save(update_fields=["dead_lettered"])
