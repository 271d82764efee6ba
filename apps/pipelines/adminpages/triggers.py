from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q
from django.template.loader import render_to_string
from unfold.decorators import action, display

from apps.access.auth import person_of
from apps.core.adminsite import AskingAdmin, once
from apps.pipelines import conditions, queries, statuses, triggers, wire
from apps.pipelines.adminpages import labels
from apps.pipelines.models import Autostart, Trigger
from apps.pipelines.schedules import services as schedules

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from apps.access.auth import Caller
    from apps.pipelines.models import Schedule
    from apps.pipelines.statuses import TriggerStatus

# What a trigger's page shows of its dead letters.
LAST_LETTERS = 20


def _start(row: Autostart, caller: Caller) -> object:
    return triggers.start_trigger(pipeline_id=row.pk, version=None, caller=caller)


def _stop(row: Autostart, caller: Caller) -> object:
    triggers.stop_trigger(pipeline_id=row.pk, caller=caller)
    return None


def _pause(row: Autostart, caller: Caller) -> object:
    return triggers.pause_trigger(pipeline_id=row.pk, caller=caller)


def _resume(row: Autostart, caller: Caller) -> object:
    return triggers.resume_trigger(pipeline_id=row.pk, caller=caller)


def _redrive(row: Autostart, caller: Caller) -> object:
    return triggers.redrive(pipeline_id=row.pk, seqs=None, caller=caller)


def _pause_schedule(row: Autostart, caller: Caller) -> object:
    return schedules.pause_schedule(pipeline_id=row.pk, caller=caller)


def _resume_schedule(row: Autostart, caller: Caller) -> object:
    return schedules.resume_schedule(pipeline_id=row.pk, caller=caller)


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
    def last_event_at(self, row: Autostart) -> Any:
        return _trigger(row).last_event_at

    @admin.display(description="last error")
    def last_error(self, row: Autostart) -> str:
        return _trigger(row).last_error

    @admin.display(description="started / failed / dead")
    def counted(self, row: Autostart) -> str:
        trigger = _trigger(row)
        return f"{trigger.started} / {trigger.failed} / {trigger.dead_lettered}"

    @admin.display(description="since it was made")
    def counters(self, row: Autostart) -> SafeString:
        counters = [
            (name.replace("_", " "), getattr(_trigger(row), name)) for name in wire.TRIGGER_COUNTERS
        ]
        return render_to_string("pipelines/admin_counters.html", {"counters": counters})

    @admin.display(description="what holds")
    def condition_list(self, row: Autostart) -> SafeString:
        listed = conditions.listed(_status(row).trigger)
        return render_to_string("pipelines/admin_conditions.html", {"conditions": listed})

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
    def next_at(self, row: Autostart) -> Any:
        schedule = _schedule(row)
        return schedule.next_at if schedule else None

    @admin.display(description="last due")
    def last_at(self, row: Autostart) -> Any:
        schedule = _schedule(row)
        return schedule.last_at if schedule else None

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

    # --- what an operator does, to several ----------------------------------------------------

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Autostart],
        done: str,
        change: Callable[[Autostart, Caller], object],
    ) -> None:
        caller = person_of(request)
        self.apply(request, queryset, done, lambda row: change(row, caller))

    @admin.action(description="Start: take messages", permissions=["operate"])
    def start(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Started", _start)

    @admin.action(description="Stop: forget the position", permissions=["operate"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Stopped", _stop)

    @admin.action(description="Pause: keep the position", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Paused", _pause)

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Resumed", _resume)

    @admin.action(description="Redrive all dead letters", permissions=["operate"])
    def redrive(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Redriven", _redrive)

    @admin.action(description="Pause the schedule", permissions=["operate"])
    def pause_schedule(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Schedule paused", _pause_schedule)

    @admin.action(description="Resume the schedule", permissions=["operate"])
    def resume_schedule(self, request: HttpRequest, queryset: QuerySet[Autostart]) -> None:
        self._each(request, queryset, "Schedule resumed", _resume_schedule)

    # --- and to one ---------------------------------------------------------------------------

    def _one(
        self,
        request: HttpRequest,
        object_id: str,
        title: str,
        question: str,
        change: Callable[[Autostart, Caller], object],
    ) -> HttpResponse:
        def carry_out(row: Autostart, _: dict[str, Any]) -> str:
            change(row, person_of(request))
            return f"{title}: done."

        return self.ask(request, object_id, title=title, question=question, change=carry_out)

    @action(description="Start", url_path="start", permissions=["operate"])  # type: ignore[untyped-decorator]
    def start_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = (
            "Messages start the newest version from now on; a started trigger goes on where it is."
        )
        return self._one(request, object_id, "Start", question, _start)

    @action(description="Stop", url_path="stop", permissions=["operate"])  # type: ignore[untyped-decorator]
    def stop_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "No more messages are taken, and the position is forgotten. What runs goes on."
        return self._one(request, object_id, "Stop", question, _stop)

    @action(description="Pause", url_path="pause", permissions=["operate"])  # type: ignore[untyped-decorator]
    def pause_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "Messages wait until it is resumed."
        return self._one(request, object_id, "Pause", question, _pause)

    @action(description="Resume", url_path="resume", permissions=["operate"])  # type: ignore[untyped-decorator]
    def resume_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "Messages are taken from where it was paused."
        return self._one(request, object_id, "Resume", question, _resume)

    @action(description="Redrive", url_path="redrive", permissions=["operate"])  # type: ignore[untyped-decorator]
    def redrive_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "All dead letters are taken up again: what failed goes on from its failed steps."
        return self._one(request, object_id, "Redrive", question, _redrive)

    @action(description="Pause schedule", url_path="pause-schedule", permissions=["operate"])  # type: ignore[untyped-decorator]
    def pause_schedule_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "Nothing is started by the clock until it is resumed, nor made up for then."
        return self._one(request, object_id, "Pause schedule", question, _pause_schedule)

    @action(description="Resume schedule", url_path="resume-schedule", permissions=["operate"])  # type: ignore[untyped-decorator]
    def resume_schedule_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        question = "The clock starts it again, from its next due time on."
        return self._one(request, object_id, "Resume schedule", question, _resume_schedule)


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
