from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q
from django.shortcuts import render
from django.template.loader import render_to_string
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import display
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from apps.access.auth import caller_of_user
from apps.core.errors import GyozaError
from apps.core.markup import json_column, tail_block
from apps.runs import queries, services
from apps.runs.models import Attempt, Run, Worker
from apps.runs.states import HOLDS_RESOURCES, RunState, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from apps.access.auth import Caller
    from apps.runs.models import RunEvent


LABELS = {
    RunState.RUNNING: "info",
    RunState.COMPLETED: "success",
    RunState.FAILED: "danger",
    RunState.CANCELLED: "warning",
    WorkerState.READY: "success",
    WorkerState.DRAINING: "warning",
    WorkerState.LOST: "danger",
}


def _once(run: Run, name: str, build: Callable[[], str]) -> str:
    """Build a part of a run's page once: the theme asks for each field several times."""
    parts: dict[str, str] = run.__dict__.setdefault("_shown", {})
    if name not in parts:
        parts[name] = build()
    return parts[name]


def _payload_text(event: RunEvent) -> str:
    return json.dumps(event.payload, ensure_ascii=False) if event.payload else ""


def _caller(request: HttpRequest) -> Caller:
    return caller_of_user(request.user)  # type: ignore[arg-type]


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Shows rows; what changes them are actions that call services."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _caller(request).may("read")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return _caller(request).may("write")

    def apply(
        self, request: HttpRequest, rows: QuerySet[Any], done: str, change: Callable[[Any], object]
    ) -> None:
        """Change rows one by one and tell what became of them."""
        count = 0
        for row in rows:
            try:
                change(row)
                count += 1
            except GyozaError as exc:
                self.message_user(request, f"{row}: {exc.message}", messages.WARNING)
        if count:
            self.message_user(request, f"{done}: {count}", messages.SUCCESS)

    @display(description="state", ordering="state", label=LABELS)  # type: ignore[untyped-decorator]
    def state_label(self, row: Any) -> str:
        return str(row.state)


class ExactFilter(TextFilter):  # type: ignore[misc]
    """A box to type a whole value into: a list of all values would read the whole table."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return (
            queryset.filter(**{str(self.parameter_name): self.value()})
            if self.value()
            else queryset
        )


class OpFilter(ExactFilter):
    title, parameter_name = "op", "op_definition"


class TopicFilter(ExactFilter):
    title, parameter_name = "topic", "topic"


class WorkerFilter(ExactFilter):
    title, parameter_name = "worker", "worker_id"


class WorkerNameFilter(ExactFilter):
    title, parameter_name = "worker", "worker_name"


class PriorityForm(forms.Form):
    priority = forms.IntegerField(
        min_value=-1000, max_value=1000, initial=5, widget=UnfoldAdminIntegerFieldWidget
    )


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "state_label",
        "op_definition",
        "topic",
        "worker_id",
        "priority",
        "progress",
        "current_attempt",
        "created_at",
    )
    list_filter = ("state", OpFilter, TopicFilter, WorkerFilter)
    list_filter_submit = True
    search_fields = ("id",)
    search_help_text = "A run's whole id."
    ordering = ("-id",)
    paginator = InfinitePaginator
    actions = ("cancel", "retry", "reprioritise")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "id",
                    ("state_label", "progress"),
                    ("current_attempt", "priority"),
                    "error_message",
                    ("op_definition", "op_version"),
                    ("topic", "created_at"),
                    ("worker_id", "gpu"),
                    ("started_at", "finished_at"),
                    ("exit_code", "cancel_requested_at"),
                    "scheduled_at",
                )
            },
        ),
        ("Timeline", {"fields": ("timeline",)}),
        ("Attempts", {"fields": ("attempts",)}),
        ("End of the log", {"fields": ("log_tail",)}),
        ("Inputs and outputs", {"fields": ("inputs_json", "outputs_json", "metadata_json")}),
        (
            "What it runs",
            {
                "fields": (
                    "image",
                    "command_json",
                    "python",
                    "env_json",
                    ("cpu", "ram_mb"),
                    ("vram_mb", "gpu_id"),
                    ("tags", "timeout_s"),
                    "retry_policy_json",
                    "attributes_json",
                    ("execution_id", "step"),
                    "created_by",
                )
            },
        ),
    )
    readonly_fields = (
        "state_label", "timeline", "attempts", "log_tail", "worker_id", "inputs_json", "outputs_json",
        "metadata_json", "command_json", "env_json", "retry_policy_json", "attributes_json",
    )  # fmt: skip
    inputs_json = json_column("inputs")
    outputs_json = json_column("outputs")
    metadata_json = json_column("metadata")
    command_json = json_column("command")
    env_json = json_column("env")
    retry_policy_json = json_column("retry_policy")
    attributes_json = json_column("attributes")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            return queryset.filter(pk=UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False

    @admin.display(description="worker", ordering="worker_id")
    def worker_id(self, run: Run) -> str | None:
        return run.worker_id

    @admin.display(description="timeline")
    def timeline(self, run: Run) -> str:
        def build() -> str:
            events = queries.timeline(run, attempt=run.current_attempt)[-200:]
            rows = [(event, _payload_text(event)) for event in events]
            return render_to_string("runs/admin_timeline.html", {"rows": rows})

        return _once(run, "timeline", build)

    @admin.display(description="attempts")
    def attempts(self, run: Run) -> str:
        def build() -> str:
            context = {"attempts": queries.attempts(run)}
            return render_to_string("runs/admin_attempts.html", context)

        return _once(run, "attempts", build)

    @admin.display(description="log")
    def log_tail(self, run: Run) -> str:
        def build() -> str:
            text = queries.log_tail(run).decode("utf-8", "replace")
            return tail_block(text) if text else "Nothing yet."

        return _once(run, "log", build)

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        caller = _caller(request)
        self.apply(
            request,
            queryset,
            "Cancelled, or asked to stop",
            lambda run: services.cancel_run(run_id=run.id, caller=caller),
        )

    @admin.action(description="Retry", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        caller = _caller(request)
        self.apply(
            request,
            queryset,
            "Queued again",
            lambda run: services.retry_run(run_id=run.id, caller=caller),
        )

    @admin.action(description="Change the priority", permissions=["operate"])
    def reprioritise(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        form = PriorityForm(request.POST if "apply" in request.POST else None)
        if not form.is_valid():
            context = {
                **self.admin_site.each_context(request),
                "title": "Change the priority",
                "form": form,
                "opts": self.opts,
                "chosen": request.POST.getlist("_selected_action"),
                "count": queryset.count(),
            }
            return render(request, "runs/admin_reprioritise.html", context)
        caller, priority = _caller(request), form.cleaned_data["priority"]
        self.apply(
            request,
            queryset,
            f"Priority set to {priority}",
            lambda run: services.update_run(run_id=run.id, caller=caller, priority=priority),
        )
        return None


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("run_id", "number", "state_label", "worker_name", "exit_code", "finished_at")
    list_filter = ("state", WorkerNameFilter)
    list_filter_submit = True
    search_fields = ("run_id",)
    search_help_text = "A run's whole id."
    ordering = ("-id",)
    paginator = InfinitePaginator
    fields = (
        ("run", "number"),
        ("state_label", "progress"),
        "error_message",
        ("worker_name", "gpu"),
        ("exit_code", "queued_at"),
        ("assigned_at", "started_at"),
        "finished_at",
        "outputs_json",
    )
    readonly_fields = ("state_label", "outputs_json")
    outputs_json = json_column("outputs")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempt], search_term: str
    ) -> tuple[QuerySet[Attempt], bool]:
        if not search_term.strip():
            return queryset, False
        try:
            return queryset.filter(run_id=UUID(search_term.strip())), False
        except ValueError:
            return queryset.none(), False


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "kind",
        "state_label",
        "running",
        "slots",
        "cpu",
        "ram_mb",
        "tags",
        "hostname",
        "heartbeat_at",
    )
    list_filter = ("state", "kind")
    search_fields = ("id", "hostname")
    ordering = ("id",)
    actions = ("drain", "resume")
    fieldsets = (
        (None, {"fields": (("id", "state_label"), ("kind", "hostname"), "owner")}),
        ("Holds", {"fields": ("held",)}),
        (
            "Offers",
            {"fields": (("executors", "slots"), ("cpu", "ram_mb"), ("tags", "gpus_json"))},
        ),
        ("Since", {"fields": (("registered_at", "heartbeat_at"),)}),
    )
    readonly_fields = ("state_label", "held", "gpus_json")
    gpus_json = json_column("gpus")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        held = Count("runs", filter=Q(runs__state__in=sorted(HOLDS_RESOURCES)))
        rows: QuerySet[Worker] = super().get_queryset(request).annotate(running=held)
        return rows

    @admin.display(description="running", ordering="running")
    def running(self, worker: Any) -> int:
        return int(worker.running)

    @admin.display(description="runs")
    def held(self, worker: Worker) -> str:
        runs = queries.runs_of_worker(worker, limit=100)
        return render_to_string("runs/admin_held.html", {"runs": runs})

    @admin.action(
        description="Drain: finish what it holds, take nothing new", permissions=["operate"]
    )
    def drain(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        caller = _caller(request)
        self.apply(
            request,
            queryset,
            "Draining",
            lambda worker: services.drain_worker(worker_id=worker.id, caller=caller),
        )

    @admin.action(description="Resume: take new work", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        caller = _caller(request)
        self.apply(
            request,
            queryset,
            "Resumed",
            lambda worker: services.resume_worker(worker_id=worker.id, caller=caller),
        )
