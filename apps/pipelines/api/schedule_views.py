from __future__ import annotations

from typing import TYPE_CHECKING

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from apps.access.auth import caller_of
from apps.core.api.bodies import read_nothing
from apps.core.api.views import ApiView
from apps.pipelines import wire
from apps.pipelines.api.serializers import ScheduleSerializer
from apps.pipelines.schedules import services as schedules

if TYPE_CHECKING:
    from rest_framework.request import Request


class ScheduleView(ApiView):
    scope = "read"

    @extend_schema(operation_id="get_schedule", responses=ScheduleSerializer)
    def get(self, request: Request, pipeline_id: str) -> Response:
        """Say when a pipeline is due next, and what the clock has started."""
        row = schedules.get_schedule(pipeline_id=pipeline_id, caller=caller_of(request))
        return Response(wire.schedule(row))


class SchedulePauseView(ApiView):
    scope = "write"

    @extend_schema(operation_id="pause_schedule", request=None, responses=ScheduleSerializer)
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Start nothing more by the clock until resumed."""
        read_nothing(request.data)
        row = schedules.pause_schedule(pipeline_id=pipeline_id, caller=caller_of(request))
        return Response(wire.schedule(row))


class ScheduleResumeView(ApiView):
    scope = "write"

    @extend_schema(operation_id="resume_schedule", request=None, responses=ScheduleSerializer)
    def post(self, request: Request, pipeline_id: str) -> Response:
        """Start by the clock again, from the next due time on."""
        read_nothing(request.data)
        row = schedules.resume_schedule(pipeline_id=pipeline_id, caller=caller_of(request))
        return Response(wire.schedule(row))
