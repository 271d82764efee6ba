"""The rows by which beat knows when to knock. A knock is a hint: what is due is in the schedule's own row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from django_celery_beat.models import CrontabSchedule, PeriodicTask

from apps.pipelines.schedules.cron import Cron

if TYPE_CHECKING:
    from collections.abc import Collection

    from apps.pipelines.models import Schedule

START_TASK = "pipelines.start_schedule"
# A knock that waited longer for a worker is useless: a sweep has found the row.
EXPIRES_SECONDS = 60


def keep(schedule: Schedule) -> None:
    """Make beat knock when a schedule is due, in the caller's transaction; not while it is paused."""
    task = PeriodicTask.objects.filter(name=_name(schedule.pipeline_id)).first()
    crontab = CrontabSchedule(pk=None if task is None else task.crontab_id)
    for field, value in _fields(Cron.parse(schedule.cron)).items():
        setattr(crontab, field, value)
    crontab.timezone = ZoneInfo(schedule.timezone)
    crontab.save()
    if task is None:
        task = PeriodicTask(
            name=_name(schedule.pipeline_id),
            task=START_TASK,
            kwargs=json.dumps({"pipeline_id": schedule.pipeline_id}),
            expire_seconds=EXPIRES_SECONDS,
            description="Made by its pipeline; change it there.",
        )
    task.crontab = crontab
    task.enabled = not schedule.is_paused
    task.save()


def remove(pipeline_id: str) -> None:
    """Let beat forget a schedule, in the caller's transaction."""
    CrontabSchedule.objects.filter(periodictask__name=_name(pipeline_id)).delete()


def _name(pipeline_id: str) -> str:
    return f"pipelines.schedule.{pipeline_id}"


def _fields(cron: Cron) -> dict[str, str]:
    # Celery wants both days to fit where cron is content with either: then it knocks daily.
    either = cron.is_either_day
    return {
        "minute": _listed(cron.minutes, of=60),
        "hour": _listed(cron.hours, of=24),
        "day_of_month": "*" if either else _listed(cron.days, of=31),
        "month_of_year": _listed(cron.months, of=12),
        "day_of_week": "*" if either else _listed(cron.weekdays, of=7),
    }


def _listed(numbers: Collection[int], *, of: int) -> str:
    return "*" if len(numbers) == of else ",".join(map(str, sorted(numbers)))
