"""What finds the rows whose nudge was lost."""

from __future__ import annotations

import logging

from apps.core import clock, sql
from apps.core.queue import enqueue_on_commit
from apps.pipelines import settling, starting
from apps.pipelines.models import Execution

log = logging.getLogger(__name__)

# Executions one sweep wakes; the next sweep takes the rest.
MOST = 500


def sweep_executions() -> None:
    """Advance executions that have something to do, settle those that ended, and let queued ones begin."""
    due = sql.run("pipelines/executions_to_advance", now=clock.now(), limit=MOST).rows
    for row in due:
        enqueue_on_commit(starting.ADVANCE_TASK, execution_id=str(row["id"]))
    unsettled = Execution.objects.filter(is_settled=False).values_list("id", flat=True)
    for execution_id in unsettled[:MOST]:
        settling.settle_execution(execution_id)
    for row in sql.run("pipelines/queued_pipelines").rows:
        starting.release_queued(row["pipeline_id"])
