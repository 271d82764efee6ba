"""Shapes of request bodies for OpenAPI; their rules are in `runs.api.requests`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.runs.api.requests import REPORTABLE
from apps.runs.api.serializers import ResourcesSerializer
from apps.runs.states import RunState


class RunEventDeliveryRequestSerializer(serializers.Serializer[Any]):
    topic = serializers.CharField(required=False, allow_blank=True, max_length=255)
    attributes = serializers.DictField(required=False)


class DefinitionRunCreateSerializer(serializers.Serializer[Any]):
    inputs = serializers.DictField(default=dict)
    priority = serializers.IntegerField(default=5, min_value=-1000, max_value=1000)
    event_delivery = RunEventDeliveryRequestSerializer(required=False)
    metadata = serializers.DictField(default=dict)
    scheduled_at = serializers.DateTimeField(required=False, allow_null=True)
    timeout_s = serializers.FloatField(required=False, allow_null=True)


class ConstraintsRequestSerializer(serializers.Serializer[Any]):
    cpu = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    ram_mb = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    vram_mb = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    gpu_id = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    tags = serializers.ListField(child=serializers.CharField(), required=False)


class AdHocRunCreateSerializer(DefinitionRunCreateSerializer):
    image = serializers.CharField(required=False, allow_null=True)
    command = serializers.ListField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        allow_null=True,
        allow_empty=False,
    )
    python = serializers.CharField(required=False, allow_null=True)
    env = serializers.DictField(child=serializers.CharField(allow_blank=True), default=dict)
    input_specs = serializers.DictField(required=False)
    output_specs = serializers.DictField(required=False)
    constraints = ConstraintsRequestSerializer(required=False)
    retry_policy = serializers.DictField(required=False)


class BatchMemberSerializer(AdHocRunCreateSerializer):
    definition = serializers.CharField(required=False, help_text="Absent = an ad-hoc run.")
    version = serializers.CharField(required=False, help_text="Absent = the latest.")


class RunBatchCreateSerializer(serializers.Serializer[Any]):
    runs = serializers.ListField(child=BatchMemberSerializer(), min_length=1, max_length=1000)


class RunUpdateSerializer(serializers.Serializer[Any]):
    priority = serializers.IntegerField(required=False, min_value=-1000, max_value=1000)
    metadata = serializers.DictField(required=False)
    state = serializers.ChoiceField(
        choices=[RunState.RUNNING, RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED],
        required=False,
        help_text="By the executing worker, with attempt and lease.",
    )
    outputs = serializers.DictField(required=False, help_text="By the executing worker.")
    attempt = serializers.IntegerField(required=False, min_value=1)
    lease = serializers.CharField(required=False)


class EventCreateSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=REPORTABLE)
    msg = serializers.JSONField(required=False, help_text="Text, or 0–100 for PROGRESS.")
    payload = serializers.DictField(default=dict)
    outputs = serializers.DictField(required=False, help_text="Added to the attempt's outputs.")
    attempt = serializers.IntegerField(min_value=1)
    lease = serializers.CharField()


class RunCancelSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(default="", allow_blank=True, max_length=1000)


class HeartbeatSerializer(serializers.Serializer[Any]):
    resources = ResourcesSerializer(required=False)
    tags = serializers.ListField(child=serializers.CharField(), default=list)
    running = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        help_text="What it executes. A run it holds and has not named for ten seconds goes elsewhere.",
    )


class ClaimSerializer(serializers.Serializer[Any]):
    max = serializers.IntegerField(default=1, min_value=1, max_value=1000)
