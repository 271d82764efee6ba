"""What an execution's end means to others: its parent goes on, queued ones begin, its trigger counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from apps.core.queue import enqueue_on_commit
from apps.pipelines import starting
from apps.pipelines.models import Execution

if TYPE_CHECKING:
    from uuid import UUID


def settle_execution(execution_id: UUID) -> None:
    """Tell whoever waited for an execution that it has ended; once."""
    with transaction.atomic():
        execution = (
            Execution.objects.select_for_update(no_key=True)
            .filter(pk=execution_id, is_settled=False)
            .defer("document", "trigger")
            .first()
        )
        if execution is None:
            return
        Execution.objects.filter(pk=execution_id).update(is_settled=True)
        if execution.parent_id is not None and execution.parent_stage is not None:
            enqueue_on_commit(starting.ADVANCE_TASK, execution_id=str(execution.parent_id))
    starting.release_queued(execution.pipeline_id)
