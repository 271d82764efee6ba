"""Django looks for an app's admin pages here."""

from __future__ import annotations

from django.contrib import admin
from django_celery_beat import models as beat

from apps.pipelines.adminpages.executions import ExecutionAdmin
from apps.pipelines.adminpages.pipelines import PipelineAdmin
from apps.pipelines.adminpages.triggers import AutostartAdmin

__all__ = ["AutostartAdmin", "ExecutionAdmin", "PipelineAdmin"]

# Beat's rows follow the pipelines': what somebody changed here would be overwritten (docs/adr/0060).
admin.site.unregister(
    [
        beat.PeriodicTask,
        beat.CrontabSchedule,
        beat.IntervalSchedule,
        beat.SolarSchedule,
        beat.ClockedSchedule,
    ]
)
