from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.template.loader import render_to_string
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from apps.access.auth import person_of
from apps.core.adminsite import AskingAdmin, ExactFilter, once
from apps.core.markup import json_block, json_column
from apps.pipelines import pages, services, wire
from apps.pipelines.adminpages import labels
from apps.pipelines.adminpages.forms import AnswerForm, ReasonForm, ReplayForm
from apps.pipelines.language import documents
from apps.pipelines.models import Execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from apps.pipelines.pages import Whole


class PipelineFilter(ExactFilter):
    title, parameter_name = "pipeline", "pipeline_id"


def _text_column(name: str) -> Callable[[Any, Execution], SafeString | None]:
    """Return a read-only field: a column with JSON text."""

    @admin.display(description=name)
    def shown(_page: Any, row: Execution) -> SafeString | None:
        text = getattr(row, name)
        return None if text is None else json_block(json.loads(text))

    return shown


@admin.register(Execution)
class ExecutionAdmin(AskingAdmin):
    list_display = (
        *("__str__", "pipeline_id", "pipeline_version", "phase", "started_by"),
        *("created_at", "completed_at"),
    )
    list_filter = ("status", PipelineFilter)
    list_filter_submit = True
    search_fields = ("id",)
    search_help_text = "An execution's whole id, or its tag."
    ordering = ("-id",)
    paginator = InfinitePaginator
    actions = ("cancel", "retry")
    actions_detail = ("answer", "cancel_one", "retry_one", "replay")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("id", "tag"),
                    ("status", "phase"),
                    ("pipeline_id", "pipeline_version"),
                    ("started_by", "attempt"),
                    ("created_at", "started_at"),
                    ("completed_at", "cancel_reason"),
                    "error",
                )
            },
        ),
        ("Graph", {"fields": ("graph",)}),
        ("Stages", {"fields": ("stages",)}),
        ("Inputs and outputs", {"fields": ("trigger_json", "inputs_json", "outputs_json")}),
        (
            "More",
            {
                "fields": (
                    ("created_by", "root_correlation_id"),
                    ("parent_link", "parent_stage"),
                    ("retry_at", "deadline_at"),
                    "metadata_json",
                    "error_info_json",
                    "document_json",
                )
            },
        ),
    )
    readonly_fields = (
        *("phase", "started_by", "error", "graph", "stages", "trigger_json"),
        *("inputs_json", "outputs_json", "metadata_json", "error_info_json", "document_json"),
        "parent_link",
    )
    inputs_json = json_column("inputs")
    outputs_json = json_column("outputs")
    metadata_json = json_column("metadata")
    error_info_json = json_column("error_info")
    trigger_json = _text_column("trigger")
    document_json = _text_column("document")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Execution]:
        rows: QuerySet[Execution] = super().get_queryset(request)
        # A list shows none of them, and a page all: then they come with one more read each of the row.
        heavy = ("document", "trigger", "inputs", "outputs", "metadata")
        is_list = request.resolver_match is not None and request.resolver_match.url_name == (
            "pipelines_execution_changelist"
        )
        return rows.defer(*heavy) if is_list else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Execution], search_term: str
    ) -> tuple[QuerySet[Execution], bool]:
        named = search_term.strip()
        if not named:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(named)), False
        except ValueError:
            return queryset.filter(tag=named), False

    @display(description="phase", ordering="status", label=labels.PHASES)  # type: ignore[untyped-decorator]
    def phase(self, row: Execution) -> str:
        return wire.phase(row)

    @admin.display(description="started by")
    def started_by(self, row: Execution) -> str:
        # In a list, each row would ask for its name.
        return pages.started_by(row, {})

    @admin.display(description="error")
    def error(self, row: Execution) -> str:
        return str((row.error_info or {}).get("message", ""))

    @admin.display(description="parent execution")
    def parent_link(self, row: Execution) -> SafeString | str:
        if row.parent_id is None:
            return ""
        return render_to_string("pipelines/admin_execution_link.html", {"id": row.parent_id})

    @admin.display(description="steps")
    def graph(self, row: Execution) -> SafeString:
        drawn: SafeString = once(row, "graph", lambda: _whole(row).graph)
        return drawn

    @admin.display(description="in the order of the document")
    def stages(self, row: Execution) -> SafeString:
        def build() -> SafeString:
            context = {"execution": row, "stages": _whole(row).shown()}
            return render_to_string("pipelines/admin_stages.html", context)

        shown: SafeString = once(row, "stages", build)
        return shown

    # --- what an operator does ----------------------------------------------------------------

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Execution]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Cancelled, or asked to stop",
            lambda row: services.cancel_execution(named=str(row.pk), caller=caller),
        )

    @admin.action(description="Retry from the failed steps", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Execution]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Under way again",
            lambda row: services.retry_execution(named=str(row.pk), caller=caller),
        )

    @action(description="Cancel", url_path="cancel", permissions=["operate"])  # type: ignore[untyped-decorator]
    def cancel_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(row: Execution, given: dict[str, Any]) -> str:
            services.cancel_execution(
                named=str(row.pk), reason=given["reason"], caller=person_of(request)
            )
            return "Cancelled, or asked to stop."

        return self.ask(
            request,
            object_id,
            title="Cancel",
            question="What waits is cancelled at once, what runs is asked to stop.",
            form_class=ReasonForm,
            change=change,
        )

    @action(description="Retry", url_path="retry", permissions=["operate"])  # type: ignore[untyped-decorator]
    def retry_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(row: Execution, _: dict[str, Any]) -> str:
            services.retry_execution(named=str(row.pk), caller=person_of(request))
            return "Under way again."

        return self.ask(
            request,
            object_id,
            title="Retry",
            question="It goes on from its failed steps; finished ones keep their outputs.",
            change=change,
        )

    @action(description="Replay", url_path="replay", permissions=["operate"])  # type: ignore[untyped-decorator]
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(row: Execution, given: dict[str, Any]) -> str:
            child = services.replay_execution(
                named=str(row.pk),
                from_stage=given["from_stage"],
                tag=given["tag"] or None,
                caller=person_of(request),
            )
            return f"Execution {child.id} repeats this one from {given['from_stage']}."

        row = self.get_object(request, unquote(object_id))
        steps = [] if row is None else list(documents.plan_of(row.document).needs)
        return self.ask(
            request,
            object_id,
            title="Replay",
            question="Another execution of the same version and inputs begins at a step of this one.",
            form_class=partial(ReplayForm, steps=steps),
            change=change,
        )

    @action(description="Answer an approval", url_path="answer", permissions=["operate"])  # type: ignore[untyped-decorator]
    def answer(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(row: Execution, given: dict[str, Any]) -> str:
            services.approve_stage(
                named=str(row.pk),
                stage_name=given["stage"],
                approved=given["answer"] == "yes",
                comment=given["comment"],
                caller=person_of(request),
            )
            return f"{given['stage']}: the answer is given."

        row = self.get_object(request, unquote(object_id))
        open_questions = [] if row is None else _whole(row).questions()
        return self.ask(
            request,
            object_id,
            title="Answer an approval",
            question=(
                "The step goes on with your name and your comment."
                if open_questions
                else "No step waits for an answer."
            ),
            form_class=partial(AnswerForm, stages=open_questions),
            initial=lambda _: {"stage": request.GET.get("stage", "")},
            change=change,
        )


def _whole(row: Execution) -> Whole:
    found: Whole = once(row, "whole", lambda: pages.whole(row))
    return found
