from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib import admin
from unfold.paginator import InfinitePaginator

from apps.core.adminsite import ExactFilter
from apps.core.markup import json_column
from apps.runs.adminpages.labels import StateAdmin
from apps.runs.models import Attempt

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


class WorkerNameFilter(ExactFilter):
    title, parameter_name = "worker", "worker_name"


@admin.register(Attempt)
class AttemptAdmin(StateAdmin):
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
