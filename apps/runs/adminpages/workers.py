from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, Q
from django.template.loader import render_to_string

from apps.access.auth import person_of
from apps.core.markup import json_column
from apps.runs import queries
from apps.runs.adminpages.labels import StateAdmin
from apps.runs.models import Worker
from apps.runs.services import workers
from apps.runs.states import HOLDS_RESOURCES

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


@admin.register(Worker)
class WorkerAdmin(StateAdmin):
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
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Draining",
            lambda worker: workers.drain_worker(worker_id=worker.id, caller=caller),
        )

    @admin.action(description="Resume: take new work", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Worker]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Resumed",
            lambda worker: workers.resume_worker(worker_id=worker.id, caller=caller),
        )
