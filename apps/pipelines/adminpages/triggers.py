from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.formats import localize
from unfold.decorators import display

from apps.core.adminsite import AskingAdmin, once
from apps.pipelines import pages, queries
from apps.pipelines.adminpages import labels, verbs
from apps.pipelines.models import Autostart, Trigger
from apps.pipelines.triggering import statuses

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

    from apps.pipelines.models import Schedule
    from apps.pipelines.triggering.statuses import TriggerStatus

# What a trigger's page shows of its dead letters.
LAST_LETTERS = 20


class StartFilter(admin.SimpleListFilter):
    title, parameter_name = "started by", "by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("messages", "messages"), ("clock", "the clock")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> QuerySet[Autostart]:
        if self.value() == "messages":
            return queryset.filter(~Q(event="") | Q(trigger__isnull=False))
        if self.value() == "clock":
            return queryset.filter(schedule__isnull=False)
        return queryset


@admin.register(Autostart)
class AutostartAdmin(AskingAdmin):
    """What starts pipelines by itself: event triggers and schedules, side by side."""

    list_display = (
        *("id", "topic", "trigger_state", "pending", "running"),
        *("counted", "clock", "schedule_state", "next_at"),
    )
    list_filter = (StartFilter,)
    list_select_related = ("trigger", "schedule")
    search_fields = ("id__startswith", "event__startswith")
    search_help_text = "The beginning of a pipeline's id or of a topic."
    ordering = ("id",)
    actions = (
        *("start", "stop", "pause", "resume", "redrive"),
        *("pause_schedule", "resume_schedule"),
    )
    actions_detail = (
        *("start_one", "stop_one", "pause_one", "resume_one", "redrive_one"),
        *("pause_schedule_one", "resume_schedule_one"),
    )
    readonly_fields = (
        *("topic", "version", "trigger_state", "pending", "oldest", "running", "position"),
        *("last_event_at", "last_error", "counters", "condition_list", "letters"),
        *("clock", "schedule_state", "next_at", "last_at", "last_scheduled", "scheduled"),
    )
    fieldsets = (
        (None, {"fields": (("id", "name"),)}),
        (
            "Messages",
            {
                "fields": (
                    ("trigger_state", "topic"),
                    ("version", "position"),
                    ("pending", "oldest"),
                    ("running", "last_event_at"),
                    "last_error",
                )
            },
        ),
        ("Counters", {"fields": ("counters",)}),
        ("Conditions", {"fields": ("condition_list",)}),
        ("Dead letters", {"fields": ("letters",)}),
        (
            "The clock",
            {
                "fields": (
                    ("schedule_state", "clock"),
                    ("next_at", "last_at"),
                    ("scheduled", "last_scheduled"),
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Autostart]:
        rows: QuerySet[Autostart] = super().get_queryset(request)
        return rows.filter(
            ~Q(event="") | Q(trigger__isnull=False) | Q(schedule__isnull=False)
        ).select_related("trigger", "schedule")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        _read_statuses(list(changes.result_list))
        return changes

    # --- messages -----------------------------------------------------------------------------

    @admin.display(description="topic", ordering="event")
    def topic(self, row: Autostart) -> str:
        return _trigger(row).topic or row.event

    @display(description="messages", label=labels.TRIGGERS)  # type: ignore[untyped-decorator]
    def trigger_state(self, row: Autostart) -> str:
        is_none = not row.event and not hasattr(row, "trigger")
        return "" if is_none else str(_status(row).state)

    @admin.display(description="pinned version")
    def version(self, row: Autostart) -> int | None:
        return _trigger(row).version or None

    @admin.display(description="newest seq taken")
    def position(self, row: Autostart) -> int | None:
        return _trigger(row).position

    @admin.display(description="waiting")
    def pending(self, row: Autostart) -> int:
        return _status(row).pending

    @admin.display(description="seconds the oldest waits")
    def oldest(self, row: Autostart) -> float | None:
        return _status(row).oldest_pending_age_s

    @admin.display(description="running")
    def running(self, row: Autostart) -> str:
        return f"{_status(row).running} of {_status(row).most}"

    @admin.display(description="last message")
    def last_event_at(self, row: Autostart) -> str:
        return _moment(_trigger(row).last_event_at)

    @admin.display(description="last error")
    def last_error(self, row: Autostart) -> str:
        return _trigger(row).last_error

    @admin.display(description="started / failed / dead")
    def counted(self, row: Autostart) -> str:
        trigger = _trigger(row)
        return f"{trigger.started} / {trigger.failed} / {trigger.dead_lettered}"

    @admin.display(description="since it was made")
    def counters(self, row: Autostart) -> SafeString:
        return pages.counters(_trigger(row))

    @admin.display(description="what holds")
    def condition_list(self, row: Autostart) -> SafeString:
        return pages.conditions_of(_status(row).trigger)

    @admin.display(description="newest first")
    def letters(self, row: Autostart) -> SafeString:
        def build() -> SafeString:
            found = queries.newest_dead_letters(row.pk, LAST_LETTERS)
            return render_to_string("pipelines/admin_dead_letters.html", {"letters": found})

        shown: SafeString = once(row, "letters", build)
        return shown

    # --- the clock ----------------------------------------------------------------------------

    @admin.display(description="schedule")
    def clock(self, row: Autostart) -> str:
        schedule = _schedule(row)
        return f"{schedule.cron} {schedule.timezone}" if schedule else ""

    @display(description="clock", label=labels.SCHEDULES)  # type: ignore[untyped-decorator]
    def schedule_state(self, row: Autostart) -> str:
        schedule = _schedule(row)
        if schedule is None:
            return ""
        return labels.PAUSED if schedule.is_paused else labels.SCHEDULED

    @admin.display(description="due next", ordering="schedule__next_at")
    def next_at(self, row: Autostart) -> str:
        schedule = _schedule(row)
        return _moment(schedule.next_at if schedule else None)

    @admin.display(description="last due")
    def last_at(self, row: Autostart) -> str:
        schedule = _schedule(row)
        return _moment(schedule.last_at if schedule else None)

    @admin.display(description="started by the clock")
    def scheduled(self, row: Autostart) -> int | None:
        schedule = _schedule(row)
        return schedule.started if schedule else None

    @admin.display(description="last execution")
    def last_scheduled(self, row: Autostart) -> SafeString | str:
        schedule = _schedule(row)
        if schedule is None or schedule.last_execution_id is None:
            return ""
        link = {"id": schedule.last_execution_id}
        return render_to_string("pipelines/admin_execution_link.html", link)

    # --- what an operator does, to several and to one ---------------------------------------------

    start, start_one = verbs.START
    stop, stop_one = verbs.STOP
    pause, pause_one = verbs.PAUSE
    resume, resume_one = verbs.RESUME
    redrive, redrive_one = verbs.REDRIVE
    pause_schedule, pause_schedule_one = verbs.PAUSE_SCHEDULE
    resume_schedule, resume_schedule_one = verbs.RESUME_SCHEDULE


def _moment(moment: datetime | None) -> str:
    # A page formats moments of columns by itself, but not those that a method returns.
    return "" if moment is None else str(localize(moment))


def _trigger(row: Autostart) -> Trigger:
    """Return the trigger of a pipeline; one that was never started is stopped."""
    found: Trigger | None = getattr(row, "trigger", None)
    return found or Trigger(pipeline_id=row.pk, version=0, is_started=False)


def _schedule(row: Autostart) -> Schedule | None:
    found: Schedule | None = getattr(row, "schedule", None)
    return found


def _status(row: Autostart) -> TriggerStatus:
    if "_status" not in row.__dict__:
        _read_statuses([row])
    found: TriggerStatus = row.__dict__["_status"]
    return found


def _read_statuses(rows: list[Autostart]) -> None:
    """Look at the triggers of several pipelines together."""
    for row, status in zip(
        rows, statuses.statuses_of([_trigger(row) for row in rows]), strict=True
    ):
        row.__dict__["_status"] = status
