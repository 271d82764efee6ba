"""What an execution's end means to others: its parent goes on, its trigger counts, queued ones begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from apps.core import sql
from apps.core.queue import nudge_on_commit
from apps.pipelines import transitions
from apps.pipelines.execution import starting
from apps.pipelines.language import documents
from apps.pipelines.models import Ending, Execution, Trigger
from apps.pipelines.states import ExecutionStatus
from apps.pipelines.triggering import deadletters
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Collection

    from apps.topics.services import NewEvent

# Turns whose ends are told together, at most.
MOST_ENDINGS = 50


def settle_ended(*, but_not: Collection[str] = ()) -> int:
    """Tell whoever waited for executions that have ended, once for each; return for how many turns' of them.

    What a dispatcher's turn finds it tells itself (`tell_trigger`): triggers that are about to have one are left out.
    """
    left = Ending.objects.exclude(source_id__in=but_not) if but_not else Ending.objects.all()
    endings = list(left.order_by("id")[:MOST_ENDINGS])
    # Before it is noted that they know: who dies in between tells them twice.
    transitions.wake({parent for ending in endings for parent in ending.parent_ids})
    together: dict[tuple[str, str | None], list[int]] = {}
    for ending in endings:
        together.setdefault((ending.pipeline_id, ending.source_id), []).append(ending.id)
    for (pipeline_id, source_id), ids in together.items():
        _settle(pipeline_id, source_id, ids)
    return len(endings)


def _settle(pipeline_id: str, source_id: str | None, ending_ids: list[int]) -> None:
    with transaction.atomic():
        # The trigger first: the order of the dispatcher.
        trigger = None
        records: list[NewEvent] | None = None
        if source_id is not None:
            trigger = Trigger.objects.select_for_update(no_key=True).filter(pk=source_id).first()
        if trigger is None:
            # Nobody to tell, or not any more.
            Ending.objects.filter(pk__in=ending_ids).delete()
        else:
            records = tell_trigger(trigger)
            if records is None:
                return
            trigger.save()
            nudge_on_commit(starting.DISPATCH_TASK)
        starting.release_queued(pipeline_id)
        topics.append_events(records or [])


def tell_trigger(trigger: Trigger) -> list[NewEvent] | None:
    """Note on a locked trigger, which the caller saves, how its executions have ended; None if it knows of all.

    Queued ones may have room then. A message whose execution failed becomes a dead letter; returns the records that the
    caller appends as his last step.
    """
    [ends] = sql.run_bound("pipelines/tell_ends", source_id=trigger.pk, most=MOST_ENDINGS).rows
    if not ends["endings"]:
        return None
    trigger.succeeded += ends["succeeded"]
    trigger.retried += ends["retried"]
    letters = []
    if ends["failed"]:
        # Not those that somebody has retried meanwhile.
        rows = Execution.objects.select_for_update(no_key=True).filter(
            pk__in=ends["failed"], status=ExecutionStatus.FAILED
        )
        for execution in rows.order_by("pk"):
            trigger.failed += 1
            trigger.last_error = (execution.error_info or {}).get("message", "failed")
            if execution.source_seq is not None:
                letters.append(_letter(execution, trigger.last_error))
    return deadletters.keep(trigger, letters)


def _letter(execution: Execution, reason: str) -> deadletters.Letter:
    return deadletters.Letter(
        to=documents.plan_of(execution.document).trigger.dead_letter,
        seq=execution.source_seq or 0,
        text=execution.trigger or "null",
        reason=reason,
        attempts=execution.attempt,
        execution_id=execution.id,
    )
