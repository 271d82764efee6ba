from __future__ import annotations

from typing import TYPE_CHECKING

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from apps.access import services as access
from apps.access.auth import caller_of
from apps.core.api.bodies import read_nothing, read_reason
from apps.core.api.creation import IDEMPOTENCY_KEY, answer_once
from apps.core.api.parameters import Parameters
from apps.core.api.views import ApiView
from apps.pipelines import queries, services, wire
from apps.pipelines.api import requests
from apps.pipelines.api.serializers import (
    DagSerializer,
    ExecutionCancelSerializer,
    ExecutionPageSerializer,
    ExecutionReplaySerializer,
    ExecutionSerializer,
    StageApproveSerializer,
)
from apps.pipelines.execution import contents
from apps.pipelines.language import documents
from apps.pipelines.states import ExecutionStatus

if TYPE_CHECKING:
    from typing import Any

    from rest_framework.request import Request

    from apps.pipelines.models import Execution

# Postgres counts an offset row by row.
MOST_OFFSET = 100_000


class ExecutionListView(ApiView):
    scope = "read"

    @extend_schema(
        operation_id="list_executions",
        parameters=[
            OpenApiParameter("pipeline_id", str),
            OpenApiParameter(
                "status", str, many=True, enum=list(ExecutionStatus), description="Repeatable."
            ),
            OpenApiParameter("tag", str),
            OpenApiParameter("limit", int, description="1–100, default 20."),
            OpenApiParameter("offset", int, description=f"0–{MOST_OFFSET}."),
        ],
        responses=ExecutionPageSerializer,
    )
    def get(self, request: Request) -> Response:
        """List executions, newest first."""
        query = Parameters(request.query_params)
        statuses = query.many("status")
        for status in statuses:
            if status not in list(ExecutionStatus):
                query.fail("status", f"must be one of {', '.join(ExecutionStatus)}, got {status!r}")
        limit = query.integer("limit", default=20, low=1, high=100)
        offset = query.integer("offset", default=0, low=0, high=MOST_OFFSET)
        wanted = {"pipeline_id": query.text("pipeline_id"), "tag": query.text("tag")}
        query.finish()
        rows, total = queries.executions_page(
            caller=caller_of(request), statuses=statuses, limit=limit, offset=offset, **wanted
        )
        shown = ExecutionSerializer(contents.whole(rows), many=True)
        return Response(
            {
                "total": total,
                "limit": limit,
                "offset": offset,
                "has_more": offset + len(rows) < total,
                "executions": shown.data,
            }
        )


class ExecutionDetailView(ApiView):
    scope = "read"

    @extend_schema(operation_id="get_execution", responses=ExecutionSerializer)
    def get(self, request: Request, execution: str) -> Response:
        """Get an execution by id or tag."""
        return Response(_shown(queries.get_execution(named=execution, caller=caller_of(request))))


class ExecutionCancelView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="cancel_execution",
        request=ExecutionCancelSerializer,
        responses=ExecutionSerializer,
    )
    def post(self, request: Request, execution: str) -> Response:
        """Cancel an execution; what runs is asked to stop first."""
        reason = read_reason(request.data)
        caller = caller_of(request)
        return Response(
            _shown(services.cancel_execution(named=execution, caller=caller, reason=reason))
        )


class ExecutionRetryView(ApiView):
    scope = "write"

    @extend_schema(operation_id="retry_execution", request=None, responses=ExecutionSerializer)
    def post(self, request: Request, execution: str) -> Response:
        """Go on from the failed steps; finished ones keep their outputs."""
        read_nothing(request.data)
        return Response(
            _shown(services.retry_execution(named=execution, caller=caller_of(request)))
        )


class ExecutionReplayView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="replay_execution",
        parameters=[IDEMPOTENCY_KEY],
        request=ExecutionReplaySerializer,
        responses={201: ExecutionSerializer},
    )
    def post(self, request: Request, execution: str) -> Response:
        """Start a child execution that repeats this one from a step on."""

        def create() -> tuple[int, Any]:
            wanted = requests.read_replay(request.data)
            child = services.replay_execution(
                named=execution,
                from_stage=wanted.from_stage,
                tag=wanted.tag,
                version=wanted.version,
                caller=caller_of(request),
            )
            return 201, _shown(child)

        return answer_once(request, once=access.once, create=create)


class ExecutionDagView(ApiView):
    scope = "read"

    @extend_schema(operation_id="get_execution_dag", responses=DagSerializer)
    def get(self, request: Request, execution: str) -> Response:
        """Get the graph of an execution with the states of its nodes."""
        row = queries.get_execution(named=execution, caller=caller_of(request))
        needs = documents.plan_of(row.document).needs
        return Response(wire.dag(row, needs, queries.stages_by_execution([row])[row.id]))


class StageApproveView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="approve_stage",
        request=StageApproveSerializer,
        responses=ExecutionSerializer,
    )
    def post(self, request: Request, execution: str, stage: str) -> Response:
        """Answer a step that waits for approval."""
        answer = requests.read_approval(request.data)
        row = services.approve_stage(
            named=execution,
            stage_name=stage,
            approved=answer.approved,
            comment=answer.comment,
            caller=caller_of(request),
        )
        return Response(_shown(row))


def _shown(row: Execution) -> Any:
    return ExecutionSerializer(contents.whole([row])[0]).data
