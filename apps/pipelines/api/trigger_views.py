"""Event triggers: the documented calls, whose answers are exact, and ours beside them (pipelines-storage.md §2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response

from apps.access.auth import caller_of
from apps.core.api.bodies import read_nothing
from apps.core.api.parameters import Parameters
from apps.core.api.views import ApiView
from apps.pipelines import queries, triggers, wire
from apps.pipelines.api import requests
from apps.pipelines.api.serializers import (
    DeadLetterPageSerializer,
    TriggerListSerializer,
    TriggerMessageSerializer,
    TriggerReadySerializer,
    TriggerRedrivenSerializer,
    TriggerRedriveSerializer,
    TriggerStatusSerializer,
    TriggerTestSerializer,
    TriggerTrialSerializer,
)
from apps.pipelines.triggering import statuses

if TYPE_CHECKING:
    from rest_framework.request import Request


class TriggerListView(ApiView):
    scope = "read"

    @extend_schema(operation_id="list_triggers", responses=TriggerListSerializer)
    def get(self, request: Request) -> Response:
        """List the status of every event trigger."""
        found = statuses.trigger_statuses(caller=caller_of(request))
        return Response({"items": [wire.trigger(one) for one in found]})


class TriggerView(ApiView):
    scope = {"GET": "read", "POST": "write", "DELETE": "write"}

    @extend_schema(
        operation_id="start_trigger",
        parameters=[
            OpenApiParameter("pipeline_version", str, description="Pinned; without it the latest.")
        ],
        request=None,
        responses=TriggerMessageSerializer,
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Start a pipeline's event, or replace it; the cursor is kept."""
        version = queries.version_number(request.query_params.get("pipeline_version"))
        triggers.start_trigger(pipeline_id=pipeline_id, version=version, caller=caller_of(request))
        return Response({"message": "Event started successfully"})

    @extend_schema(operation_id="get_trigger", responses=TriggerReadySerializer)
    def get(self, request: Request, pipeline_id: str) -> Response:
        """Say whether a message would start an execution now."""
        ready = triggers.is_ready(pipeline_id=pipeline_id, caller=caller_of(request))
        return Response({"ready": ready})

    @extend_schema(operation_id="stop_trigger", responses={200: TriggerMessageSerializer})
    def delete(self, request: Request, pipeline_id: str) -> Response:
        """Take no more messages and drop the cursor; running executions finish."""
        triggers.stop_trigger(pipeline_id=pipeline_id, caller=caller_of(request))
        return Response({"message": "Event deleted successfully"})


class TriggerStatusView(ApiView):
    scope = "read"

    @extend_schema(operation_id="get_trigger_status", responses=TriggerStatusSerializer)
    def get(self, request: Request, pipeline_id: str) -> Response:
        """Say what a trigger does, how far it is behind, and what came of its messages."""
        caller = caller_of(request)
        return Response(
            wire.trigger(statuses.trigger_status(pipeline_id=pipeline_id, caller=caller))
        )


class TriggerPauseView(ApiView):
    scope = "write"

    @extend_schema(operation_id="pause_trigger", request=None, responses=TriggerStatusSerializer)
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Take no more messages until resumed; the cursor stays."""
        read_nothing(request.data)
        caller = caller_of(request)
        triggers.pause_trigger(pipeline_id=pipeline_id, caller=caller)
        return Response(
            wire.trigger(statuses.trigger_status(pipeline_id=pipeline_id, caller=caller))
        )


class TriggerResumeView(ApiView):
    scope = "write"

    @extend_schema(operation_id="resume_trigger", request=None, responses=TriggerStatusSerializer)
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Take messages again, from where it was paused."""
        read_nothing(request.data)
        caller = caller_of(request)
        triggers.resume_trigger(pipeline_id=pipeline_id, caller=caller)
        return Response(
            wire.trigger(statuses.trigger_status(pipeline_id=pipeline_id, caller=caller))
        )


class TriggerTestView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="test_trigger",
        request=TriggerTestSerializer,
        responses=TriggerTrialSerializer,
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Say what a message would start; nothing is started."""
        trial = triggers.try_message(
            pipeline_id=pipeline_id,
            message=requests.read_message(request.data),
            caller=caller_of(request),
        )
        return Response(
            {
                "matched": trial.matched,
                "reason": trial.reason,
                "trigger": trial.trigger,
                "steps": trial.steps,
            }
        )


class DeadLetterListView(ApiView):
    scope = "read"

    @extend_schema(
        operation_id="list_dead_letters",
        parameters=[
            OpenApiParameter("after", int, description="Those with a greater seq."),
            OpenApiParameter("limit", int, description="1–1000, default 100."),
        ],
        responses=DeadLetterPageSerializer,
    )
    def get(self, request: Request, pipeline_id: str) -> Response:
        """List messages that came to nothing, by seq."""
        query = Parameters(request.query_params)
        after = query.integer("after", default=0, low=0, high=10**18 - 1)
        limit = query.integer("limit", default=100, low=1, high=1000)
        query.finish()
        rows, has_more = queries.dead_letters_page(
            pipeline_id=pipeline_id, caller=caller_of(request), after=after, limit=limit
        )
        return Response({"items": [wire.dead_letter(row) for row in rows], "has_more": has_more})


class TriggerRedriveView(ApiView):
    scope = "write"

    @extend_schema(
        operation_id="redrive_dead_letters",
        request=TriggerRedriveSerializer,
        responses=TriggerRedrivenSerializer,
    )
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Take dead letters up again, those of these seqs or all."""
        seqs = requests.read_seqs(request.data)
        redriven = triggers.redrive(pipeline_id=pipeline_id, seqs=seqs, caller=caller_of(request))
        return Response({"redriven": redriven})
