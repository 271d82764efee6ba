from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from apps.access import services as access
from apps.access.auth import caller_of
from apps.core.api.creation import IDEMPOTENCY_KEY, answer_once
from apps.core.api.pagination import decode_cursor, encode_cursor
from apps.core.api.parameters import Parameters
from apps.core.api.parsers import StrictJSONParser, YAMLParser
from apps.core.api.views import ApiView
from apps.pipelines import queries, services
from apps.pipelines.api import requests
from apps.pipelines.api.serializers import (
    ExecutionCreateSerializer,
    ExecutionSerializer,
    PipelineCreateSerializer,
    PipelineDeletedSerializer,
    PipelinePageSerializer,
    PipelineReportSerializer,
    PipelineSerializer,
    PipelineVersionListSerializer,
    PipelineVersionSerializer,
)
from apps.pipelines.execution import contents

if TYPE_CHECKING:
    from rest_framework.request import Request

    from apps.core.body import FieldError

VERSION = OpenApiParameter("version", str, description="A version; without it the latest.")
DOCUMENT = {
    "application/json": PipelineCreateSerializer,
    "application/yaml": PipelineCreateSerializer,
}


class DocumentView(ApiView):
    """Takes a pipeline's document in JSON or YAML."""

    parser_classes = (StrictJSONParser, YAMLParser)


class PipelineListView(DocumentView):
    scope = {"GET": "read", "POST": "admin"}

    @extend_schema(
        operation_id="list_pipelines",
        parameters=[
            OpenApiParameter("name", str),
            OpenApiParameter("event", str, description="Those with this topic in options.event."),
            OpenApiParameter("limit", int, description="1–1000, default 100."),
            OpenApiParameter("token", str, description="Of the page before."),
        ],
        responses=PipelinePageSerializer,
    )
    def get(self, request: Request) -> Response:
        """List the newest version of each pipeline, by id."""
        query = Parameters(request.query_params)
        token = query.text("token")
        limit = query.integer("limit", default=100, low=1, high=1000)
        wanted = {"name": query.text("name"), "event": query.text("event")}
        query.finish()
        rows, has_more = queries.pipelines_page(
            caller=caller_of(request),
            limit=limit,
            after=decode_cursor(token, str, parameter="token") if token else None,
            **wanted,
        )
        last = encode_cursor(rows[-1][0].id) if has_more else None
        return Response({"items": PipelineSerializer(rows, many=True).data, "token": last})

    @extend_schema(
        operation_id="create_pipeline",
        parameters=[IDEMPOTENCY_KEY],
        request=DOCUMENT,
        responses={201: PipelineSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create a pipeline."""

        def create() -> tuple[int, Any]:
            made = services.create_pipeline(body=request.data, caller=caller_of(request))
            return 201, PipelineSerializer(made).data

        return answer_once(request, once=access.once, create=create)


class PipelineDetailView(DocumentView):
    scope = {"GET": "read", "PUT": "admin", "DELETE": "delete"}

    @extend_schema(operation_id="get_pipeline", parameters=[VERSION], responses=PipelineSerializer)
    def get(self, request: Request, pipeline_id: str) -> Response:
        """Get one version of a pipeline."""
        wanted = queries.version_number(request.query_params.get("version"))
        row = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller_of(request))
        return Response(PipelineSerializer((row, queries.get_version(row, wanted))).data)

    @extend_schema(operation_id="replace_pipeline", request=DOCUMENT, responses=PipelineSerializer)
    def put(self, request: Request, pipeline_id: str) -> Response:
        """Replace a pipeline as a whole: a new version, all earlier ones are kept."""
        made = services.replace_pipeline(
            pipeline_id=pipeline_id, body=request.data, caller=caller_of(request)
        )
        return Response(PipelineSerializer(made).data)

    @extend_schema(
        operation_id="delete_pipeline",
        parameters=[
            OpenApiParameter("force", bool, description="Stop what runs and listens first.")
        ],
        responses={200: PipelineDeletedSerializer},
    )
    def delete(self, request: Request, pipeline_id: str) -> Response:
        """Delete a pipeline with all its versions; its executions stay."""
        query = Parameters(request.query_params)
        force = query.boolean("force")
        query.finish()
        services.delete_pipeline(pipeline_id=pipeline_id, force=force, caller=caller_of(request))
        return Response({"id": pipeline_id, "deleted": True})


class PipelineVersionListView(ApiView):
    scope = "read"

    @extend_schema(operation_id="list_pipeline_versions", responses=PipelineVersionListSerializer)
    def get(self, request: Request, pipeline_id: str) -> Response:
        """List the versions of a pipeline, newest first."""
        row = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller_of(request))
        versions = queries.versions_of(row)
        return Response({"items": PipelineVersionSerializer(versions, many=True).data})


class PipelineValidateView(DocumentView):
    scope = "read"

    @extend_schema(
        operation_id="validate_pipeline", request=DOCUMENT, responses=PipelineReportSerializer
    )
    def post(self, request: Request) -> Response:
        """Report everything that is wrong with a document; nothing is saved."""
        found = services.validate_pipeline(body=request.data, caller=caller_of(request))
        return Response(_report(found))


class PipelineRevalidateView(DocumentView):
    scope = "read"

    @extend_schema(
        operation_id="revalidate_pipeline", request=DOCUMENT, responses=PipelineReportSerializer
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Report what is wrong with a document for this pipeline, or with its newest version without a body."""
        found = services.revalidate_pipeline(
            pipeline_id=pipeline_id, body=request.data or None, caller=caller_of(request)
        )
        return Response(_report(found))


class PipelineRunView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="run_pipeline",
        parameters=[IDEMPOTENCY_KEY],
        request=ExecutionCreateSerializer,
        responses={201: ExecutionSerializer},
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Start an execution."""

        def create() -> tuple[int, Any]:
            wanted = requests.read_run(request.data)
            execution = services.run_pipeline(
                pipeline_id=pipeline_id,
                caller=caller_of(request),
                version=wanted.version,
                inputs=wanted.inputs,
                tag=wanted.tag,
                metadata=wanted.metadata,
            )
            return 201, ExecutionSerializer(contents.whole([execution])[0]).data

        return answer_once(request, once=access.once, create=create)


def _report(found: list[FieldError]) -> dict[str, Any]:
    errors = [{"path": path, "message": message} for path, message in found]
    return {"valid": not errors, "errors": errors}
