"""What an execution's end means to others: its parent goes on, its trigger counts, queued ones begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from apps.core.queue import nudge_on_commit
from apps.pipelines import deadletters, documents, starting, transitions
from apps.pipelines.models import Execution, Trigger
from apps.pipelines.states import ExecutionStatus
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


def settle_ended(*, most: int) -> int:
    """Tell whoever waited for executions that have ended, once for each; at most `most`, return how many."""
    unsettled = Execution.objects.filter(is_settled=False).order_by("id")
    by_source: dict[str | None, list[UUID]] = {}
    parents = set()
    columns = ("id", "source_id", "parent_id", "parent_stage")
    for execution_id, source_id, parent_id, parent_stage in unsettled.values_list(*columns)[:most]:
        by_source.setdefault(source_id, []).append(execution_id)
        if parent_id is not None and parent_stage is not None:
            parents.add(parent_id)
    # Before it is noted that they know: who dies in between tells them twice.
    transitions.wake(parents)
    return sum(_settle(source_id, ids) for source_id, ids in by_source.items())


def _settle(source_id: str | None, ids: list[UUID]) -> int:
    with transaction.atomic():
        # The trigger first: the order of the dispatcher.
        trigger = None
        if source_id is not None:
            trigger = Trigger.objects.select_for_update(no_key=True).filter(pk=source_id).first()
        executions = _mark_settled(ids)
        if trigger is not None and executions:
            _count(trigger, executions)
            nudge_on_commit(starting.DISPATCH_TASK)
    for pipeline_id in sorted({one.pipeline_id for one in executions}):
        starting.release_queued(pipeline_id)
    return len(executions)


def _mark_settled(ids: list[UUID]) -> list[Execution]:
    """Note that others know of the ends of these executions; return those of which they did not."""
    rows = Execution.objects.select_for_update(no_key=True).filter(pk__in=ids, is_settled=False)
    wanted = ("pipeline_id", "status", "attempt")
    executions = list(rows.order_by("pk").only(*wanted))
    Execution.objects.filter(pk__in=[one.pk for one in executions]).update(is_settled=True)
    return executions


def _count(trigger: Trigger, executions: Sequence[Execution]) -> None:
    """Note on a trigger how its executions have ended; a message whose execution failed becomes a dead letter."""
    failed = [one.pk for one in executions if one.status == ExecutionStatus.FAILED]
    trigger.succeeded += sum(one.status == ExecutionStatus.COMPLETED for one in executions)
    trigger.retried += sum(one.attempt - 1 for one in executions)
    trigger.failed += len(failed)
    letters = []
    for execution in Execution.objects.filter(pk__in=failed).order_by("pk") if failed else ():
        trigger.last_error = (execution.error_info or {}).get("message", "failed")
        if execution.source_seq is not None:
            letters.append(_letter(execution, trigger.last_error))
    records = deadletters.keep(trigger, letters)
    trigger.save()
    topics.append_events(records)


def _letter(execution: Execution, reason: str) -> deadletters.Letter:
    return deadletters.Letter(
        to=documents.plan_of(execution.document).trigger.dead_letter,
        seq=execution.source_seq or 0,
        text=execution.trigger or "null",
        reason=reason,
        attempts=execution.attempt,
        execution_id=execution.id,
    )
