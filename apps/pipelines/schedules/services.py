"""What becomes of schedules: kept with their pipelines, paused, resumed, and started when they are due.

Whoever changes a schedule has locked its pipeline's row. Lock order: trigger → pipeline → schedule → execution.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from django.db import transaction

from apps.access import services as access
from apps.core import clock
from apps.core.sql import AWAY
from apps.pipelines import queries
from apps.pipelines.errors import NoSchedule
from apps.pipelines.execution import starting
from apps.pipelines.execution.starting import Start
from apps.pipelines.models import Execution, Pipeline, Schedule, Version
from apps.pipelines.schedules import knocks
from apps.pipelines.schedules.cron import Cron

if TYPE_CHECKING:
    from datetime import datetime

    from apps.access.auth import Caller
    from apps.pipelines.language.plans import SchedulePlan

log = logging.getLogger(__name__)

# Schedules that one sweep starts; the next one, a second later, goes on.
MOST = 200


def keep_schedule(*, pipeline: Pipeline, plan: SchedulePlan | None, caller: Caller) -> None:
    """Make the schedule of a locked pipeline what its newest version says; in the caller's transaction.

    One that says the same as before keeps its next due time, and stays paused if it was.
    """
    if plan is None:
        remove_schedule(pipeline)
        return
    schedule = Schedule.objects.filter(pk=pipeline.pk).first() or Schedule(pipeline=pipeline)
    is_other = (schedule.cron, schedule.timezone) != (plan.cron, plan.timezone)
    schedule.cron, schedule.timezone = plan.cron, plan.timezone
    schedule.created_by, schedule.prefixes = caller.owner, list(caller.prefixes)
    if is_other and not schedule.is_paused:
        schedule.next_at = _due_after(schedule, clock.now())
    schedule.save()
    knocks.keep(schedule)


def remove_schedule(pipeline: Pipeline) -> None:
    """Forget the schedule of a locked pipeline, if it has one; in the caller's transaction."""
    Schedule.objects.filter(pk=pipeline.pk).delete()
    knocks.remove(pipeline.pk)


def get_schedule(*, pipeline_id: str, caller: Caller) -> Schedule:
    """Return the schedule of a pipeline. Raises NotFound, NoSchedule."""
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    return _get(pipeline_id)


def pause_schedule(*, pipeline_id: str, caller: Caller) -> Schedule:
    """Start nothing more by the clock until resumed. Raises NotFound, NoSchedule."""
    return _set_paused(pipeline_id, paused=True, caller=caller)


def resume_schedule(*, pipeline_id: str, caller: Caller) -> Schedule:
    """Start by the clock again, from the next due time on: what was due meanwhile is not made up for.

    Raises NotFound, NoSchedule.
    """
    return _set_paused(pipeline_id, paused=False, caller=caller)


def start_due_schedules() -> None:
    """Start schedules whose time has come, oldest first; the trouble of one is not that of all."""
    due = Schedule.objects.filter(next_at__lte=clock.now()).values_list("pk", flat=True)
    for pipeline_id in due.order_by("next_at")[:MOST]:
        try:
            start_if_due(pipeline_id=pipeline_id)
        except AWAY:
            raise
        except Exception:
            log.exception("the schedule of %s stumbled", pipeline_id)


def start_if_due(*, pipeline_id: str) -> Execution | None:
    """Start one execution of a pipeline whose schedule is due, and note when it is due next, in one transaction.

    However many due times have passed meanwhile, one execution makes up for all of them: that of the latest.
    """
    now = clock.now()
    with transaction.atomic():
        # Whoever knocks at the same time waits here, and then finds nothing due.
        pipeline = Pipeline.objects.select_for_update(no_key=True).filter(pk=pipeline_id).first()
        schedule = Schedule.objects.filter(pk=pipeline_id, next_at__lte=now).first()
        if pipeline is None or schedule is None or schedule.next_at is None:
            return None
        cron = Cron.parse(schedule.cron)
        due_at = cron.latest(since=schedule.next_at, until=now, timezone=schedule.timezone)
        schedule.next_at = _due_after(schedule, now)
        execution = _start(pipeline, schedule, due_at)
        if execution is not None:
            schedule.last_at, schedule.last_execution_id = due_at, execution.id
            schedule.started += 1
        schedule.save()
    return execution


def _start(pipeline: Pipeline, schedule: Schedule, due_at: datetime) -> Execution | None:
    if Execution.objects.filter(pipeline_id=pipeline.pk, scheduled_at=due_at).exists():
        # A pipeline of this name was deleted and made again, and the clock was set back.
        return None
    version = Version.objects.get(pipeline_id=pipeline.pk, number=pipeline.latest)
    told = {"type": "schedule", "scheduled_at": clock.rfc3339(due_at), "attempt": 1}
    return starting.start(
        Start(
            pipeline_id=pipeline.pk,
            version=version.number,
            document=version.document,
            created_by=schedule.created_by,
            prefixes=tuple(schedule.prefixes),
            trigger=msgspec.json.encode(told).decode(),
            scheduled_at=due_at,
        )
    )


def _due_after(schedule: Schedule, moment: datetime) -> datetime:
    """Return the first due time after a moment, and after what was started already: clocks are set back."""
    after = moment if schedule.last_at is None else max(moment, schedule.last_at)
    due_at = Cron.parse(schedule.cron).next_after(after, schedule.timezone)
    assert due_at is not None  # noqa: S101 - checked when the document was read
    return due_at


def _set_paused(pipeline_id: str, *, paused: bool, caller: Caller) -> Schedule:
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    with transaction.atomic():
        Pipeline.objects.select_for_update(no_key=True).filter(pk=pipeline_id).first()
        schedule = _get(pipeline_id)
        if schedule.is_paused != paused:
            schedule.is_paused = paused
            schedule.next_at = None if paused else _due_after(schedule, clock.now())
            schedule.save()
            knocks.keep(schedule)
            action = "schedule.pause" if paused else "schedule.resume"
            access.audit(caller=caller, action=action, target=pipeline_id)
    return schedule


def _get(pipeline_id: str) -> Schedule:
    schedule = Schedule.objects.filter(pk=pipeline_id).first()
    if schedule is None:
        raise NoSchedule(f"pipeline {pipeline_id} has no schedule", pipeline_id=pipeline_id)
    return schedule
