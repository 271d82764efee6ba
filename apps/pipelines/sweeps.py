"""What finds the rows whose nudge was lost."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from apps.core import clock, sql
from apps.pipelines import queries
from apps.pipelines.execution import engine, starting
from apps.pipelines.models import Trigger
from apps.pipelines.schedules import services as schedules
from apps.pipelines.triggering import conditions
from apps.pipelines.triggering.conditions import Condition

# For how long the engine may be on its way to an execution whose run has ended: to look for those as well would give it
# twice the work when it has most of it.
NEWS = timedelta(seconds=1)


def sweep() -> None:
    """Start what is due by the clock, find executions that have something to do and nobody told them, let queued ones
    begin, and wake the engine.
    """
    schedules.start_due_schedules()
    now = clock.now()
    sql.run("pipelines/executions_to_advance", now=now, before=now - NEWS)
    for row in sql.run("pipelines/queued_pipelines").rows:
        starting.release_queued(row["pipeline_id"])
    _note_runners()
    if not engine.wake():
        engine.run_once()


def _note_runners() -> None:
    """Note on each started trigger whether a worker is there, when that has changed."""
    able = queries.has_runner()
    for trigger in Trigger.objects.filter(is_started=True).exclude(
        conditions__contains={Condition.RUNNER_READY: {"status": able}}
    ):
        with transaction.atomic():
            locked = Trigger.objects.select_for_update(no_key=True).filter(pk=trigger.pk).first()
            if locked is not None and locked.is_started:
                conditions.set_runner_ready(locked, able)
                locked.save(update_fields=["conditions"])
