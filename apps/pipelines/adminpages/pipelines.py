from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from unfold.decorators import action

from apps.access.auth import person_of
from apps.core.adminsite import AskingAdmin, ExactFilter, may, once
from apps.core.errors import GyozaError, NotFound
from apps.core.markup import text_block
from apps.pipelines import pictures, queries, services, wire
from apps.pipelines.adminpages.forms import DeleteForm, DocumentForm, RunForm
from apps.pipelines.language import documents, yamltext
from apps.pipelines.models import Execution, Pipeline, Version
from apps.pipelines.states import ExecutionStatus

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

# What a pipeline's page shows of its executions.
LAST_EXECUTIONS = 10


class TopicFilter(ExactFilter):
    title, parameter_name = "topic", "event"


@admin.register(Pipeline)
class PipelineAdmin(AskingAdmin):
    """Pipelines are edited as documents; whatever changes one makes a new version."""

    list_display = ("id", "name", "latest", "event", "schedule", "running", "updated_at")
    list_filter = (TopicFilter,)
    list_filter_submit = True
    list_select_related = ("schedule",)
    search_fields = ("id__startswith", "name__startswith")
    search_help_text = "The beginning of an id or a name."
    ordering = ("id",)
    actions = ("run_all",)
    actions_detail = ("run", "export", "delete_pipeline")
    readonly_fields = ("text", "graph", "executions", "versions")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, "admin")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "admin")

    def has_remove_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "delete")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pipeline]:
        running = (
            Execution.objects.filter(pipeline_id=OuterRef("pk"), status=ExecutionStatus.RUNNING)
            .order_by()
            .values("pipeline_id")
            .annotate(n=Count("pk"))
        )
        rows: QuerySet[Pipeline] = super().get_queryset(request)
        return rows.annotate(running=Coalesce(Subquery(running.values("n")), 0))

    @admin.display(description="schedule")
    def schedule(self, row: Pipeline) -> str:
        found = getattr(row, "schedule", None)
        return f"{found.cron} {found.timezone}" if found else ""

    @admin.display(description="running", ordering="running")
    def running(self, row: Any) -> int:
        return int(row.running)

    # --- one pipeline -------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Pipeline | None = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("document",)}),)
        document = "document" if self.has_change_permission(request) else "text"
        return (
            ("Graph", {"fields": ("graph",)}),
            ("Executions", {"fields": ("executions",)}),
            ("Document", {"fields": (document,)}),
            ("Versions", {"fields": ("versions",)}),
        )

    def get_form(
        self, request: HttpRequest, obj: Pipeline | None = None, change: bool = False, **_: Any
    ) -> type[DocumentForm]:
        """Return the form for this person; `?version=` fills it with an earlier version."""
        members = {"caller": person_of(request), "version": obj and _wanted(request, obj)}
        return type("PipelineForm", (DocumentForm,), members)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            page: HttpResponse = super().changeform_view(
                request, object_id, form_url, extra_context
            )
        except GyozaError as exc:
            # It has become wrong between the look at the form and the write.
            self.message_user(request, exc.message, messages.ERROR)
            return HttpResponseRedirect(request.path)
        return page

    def save_model(
        self, request: HttpRequest, obj: Pipeline, form: DocumentForm, change: bool
    ) -> None:
        caller = person_of(request)
        if not change:
            obj.pk = services.create_pipeline(body=form.body, caller=caller)[0].pk
            return
        _, version, is_new = services.revise_pipeline(
            pipeline_id=obj.pk, body=form.body, caller=caller
        )
        number = version.number
        said = f"Version {number} is saved." if is_new else "It says the same: no new version."
        self.message_user(request, said, messages.INFO)

    @admin.display(description="document")
    def text(self, row: Pipeline) -> SafeString:
        return text_block(yamltext.dump(wire.document(row, _newest(row))))

    @admin.display(description="steps")
    def graph(self, row: Pipeline) -> SafeString:
        def build() -> SafeString:
            return pictures.of_plan(documents.plan_of(_newest(row).document))

        drawn: SafeString = once(row, "graph", build)
        return drawn

    @admin.display(description="newest first")
    def executions(self, row: Pipeline) -> SafeString:
        def build() -> SafeString:
            rows = queries.newest_executions(row.pk, LAST_EXECUTIONS)
            return render_to_string("pipelines/admin_executions.html", {"rows": rows})

        shown: SafeString = once(row, "executions", build)
        return shown

    @admin.display(description="newest first")
    def versions(self, row: Pipeline) -> SafeString:
        def build() -> SafeString:
            context = {"pipeline": row, "versions": queries.versions_of(row)}
            return render_to_string("pipelines/admin_versions.html", context)

        shown: SafeString = once(row, "versions", build)
        return shown

    # --- what an operator does ----------------------------------------------------------------

    @admin.action(description="Run, without inputs", permissions=["operate"])
    def run_all(self, request: HttpRequest, queryset: QuerySet[Pipeline]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Started",
            lambda row: services.run_pipeline(pipeline_id=row.pk, caller=caller),
        )

    @action(description="Run", url_path="run", permissions=["operate"])  # type: ignore[untyped-decorator]
    def run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(row: Pipeline, given: dict[str, Any]) -> str:
            execution = services.run_pipeline(
                pipeline_id=row.pk, inputs=given["inputs"], caller=person_of(request)
            )
            return f"Execution {execution.id} of version {execution.pipeline_version} is started."

        return self.ask(
            request,
            object_id,
            title="Run",
            question="Starts an execution of the newest version.",
            form_class=RunForm,
            change=change,
        )

    @action(description="Export YAML", url_path="export", permissions=["view"])  # type: ignore[untyped-decorator]
    def export(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        version = _wanted(request, row)
        answer = HttpResponse(
            yamltext.dump(wire.document(row, version)), content_type="application/yaml"
        )
        answer["Content-Disposition"] = f'attachment; filename="{row.pk}-v{version.number}.yaml"'
        return answer

    @action(description="Delete pipeline", url_path="remove", permissions=["remove"])  # type: ignore[untyped-decorator]
    def delete_pipeline(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def change(row: Pipeline, given: dict[str, Any]) -> str:
            services.delete_pipeline(
                pipeline_id=row.pk, force=given["force"], caller=person_of(request)
            )
            return f"{row} is deleted; its executions stay."

        return self.ask(
            request,
            object_id,
            title="Delete pipeline",
            question="It is gone with all its versions, its trigger and its schedule, for good.",
            form_class=DeleteForm,
            change=change,
        )


def _wanted(request: HttpRequest, row: Pipeline) -> Version:
    """Return the version that is asked for, the newest if none is or there is no such."""
    try:
        return queries.get_version(row, queries.version_number(request.GET.get("version")))
    except NotFound:
        return _newest(row)


def _newest(row: Pipeline) -> Version:
    newest: Version = once(row, "newest", lambda: queries.get_version(row, None))
    return newest
