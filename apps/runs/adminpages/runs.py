from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django import forms
from django.contrib import admin
from django.shortcuts import render
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from apps.access.auth import person_of
from apps.core.adminsite import ExactFilter, once
from apps.core.markup import json_column, tail_block
from apps.runs import pages, queries
from apps.runs.adminpages.labels import StateAdmin
from apps.runs.models import Run
from apps.runs.services import control

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse


class OpFilter(ExactFilter):
    title, parameter_name = "op", "op_definition"


class TopicFilter(ExactFilter):
    title, parameter_name = "topic", "topic"


class WorkerFilter(ExactFilter):
    title, parameter_name = "worker", "worker_id"


class PriorityForm(forms.Form):
    priority = forms.IntegerField(
        min_value=-1000, max_value=1000, initial=5, widget=UnfoldAdminIntegerFieldWidget
    )


@admin.register(Run)
class RunAdmin(StateAdmin):
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
        return str(once(run, "timeline", lambda: pages.timeline(run)))

    @admin.display(description="attempts")
    def attempts(self, run: Run) -> str:
        return str(once(run, "attempts", lambda: pages.attempts(run)))

    @admin.display(description="log")
    def log_tail(self, run: Run) -> str:
        def build() -> str:
            text = queries.log_tail(run).text
            return tail_block(text) if text else "Nothing yet."

        return str(once(run, "log", build))

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Cancelled, or asked to stop",
            lambda run: control.cancel_run(run_id=run.id, caller=caller),
        )

    @admin.action(description="Retry", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Queued again",
            lambda run: control.retry_run(run_id=run.id, caller=caller),
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
        caller, priority = person_of(request), form.cleaned_data["priority"]
        self.apply(
            request,
            queryset,
            f"Priority set to {priority}",
            lambda run: control.update_run(run_id=run.id, caller=caller, priority=priority),
        )
        return None
