from __future__ import annotations

from typing import TYPE_CHECKING

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from apps.access.auth import caller_of
from apps.core.api.views import ApiView
from apps.runs import queries
from apps.runs.api import request_serializers as bodies
from apps.runs.api import requests
from apps.runs.api.serializers import (
    ClaimedListSerializer,
    ClaimedSerializer,
    HeartbeatAnswerSerializer,
    WorkerListSerializer,
    WorkerSerializer,
)
from apps.runs.services import workers

if TYPE_CHECKING:
    from rest_framework.request import Request


class WorkerListView(ApiView):
    scope = "read"

    @extend_schema(operation_id="list_workers", responses=WorkerListSerializer)
    def get(self, request: Request) -> Response:
        """List the workers with what they offer and hold."""
        workers = queries.workers(caller_of(request))
        return Response({"data": WorkerSerializer(workers, many=True).data})


class WorkerHeartbeatView(ApiView):
    scope = "admin"

    @extend_schema(
        operation_id="heartbeat_worker",
        request=bodies.HeartbeatSerializer,
        responses=HeartbeatAnswerSerializer,
    )
    def post(self, request: Request, worker_id: str) -> Response:
        """Register a pull worker, or say that it is alive and what it runs."""
        requests.check_worker_id(worker_id)
        said = requests.read_heartbeat(request.data)
        answer = workers.heartbeat(
            worker_id=worker_id,
            resources=said.resources,
            tags=said.tags,
            running=said.running,
            caller=caller_of(request),
        )
        return Response(answer)


class WorkerClaimView(ApiView):
    scope = "admin"

    @extend_schema(
        operation_id="claim_runs", request=bodies.ClaimSerializer, responses=ClaimedListSerializer
    )
    def post(self, request: Request, worker_id: str) -> Response:
        """Give the worker runs that fit its free resources."""
        limit = requests.read_limit(request.data)
        claims = workers.claim(worker_id=worker_id, limit=limit, caller=caller_of(request))
        return Response({"data": ClaimedSerializer(claims, many=True).data})
