"""Shapes for OpenAPI; `pipelines.wire` writes answers, `documents` and `api.requests` read bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from apps.pipelines import wire
from apps.pipelines.states import ExecutionStatus, StageStatus, TriggerState

if TYPE_CHECKING:
    from apps.pipelines.models import Execution, Pipeline, Stage, Version

JSON = Any

EXECUTION_STATUSES = [status.value for status in ExecutionStatus]
STAGE_STATUSES = [status.value for status in StageStatus]
TRIGGER_STATES = [state.value for state in TriggerState]


class PipelineStepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Unique; segments between slashes.")
    op = serializers.CharField(
        required=False, help_text="name or name@version; or one of the next."
    )
    image = serializers.CharField(required=False)
    command = serializers.ListField(
        child=serializers.CharField(allow_blank=True), required=False, allow_empty=False
    )
    python = serializers.CharField(required=False)
    adapter = serializers.CharField(required=False)
    inputs = serializers.DictField(required=False, help_text='Literals, or {"$ref": "<JMESPath>"}.')
    needs = serializers.ListField(child=serializers.CharField(), required=False)
    when = serializers.CharField(required=False, help_text="JMESPath; false = skipped.")
    for_each = serializers.CharField(required=False, help_text="JMESPath that gives an array.")
    max_parallel = serializers.IntegerField(required=False, min_value=1, max_value=1000)
    stage = serializers.CharField(required=False)
    priority = serializers.IntegerField(required=False, min_value=-1000, max_value=1000)
    retry_policy = serializers.DictField(required=False)
    timeout_s = serializers.FloatField(required=False, allow_null=True)
    constraints = serializers.DictField(required=False)
    env = serializers.DictField(required=False)


class PipelineCreateSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(required=False, help_text="Made by the server if absent.")
    name = serializers.CharField()
    options = serializers.DictField(
        required=False,
        help_text="event, trigger, max_concurrent_executions, timeout_s, on_failure, others.",
    )
    steps = serializers.ListField(child=PipelineStepSerializer(), required=False)
    metadata = serializers.DictField(required=False)
    tags = serializers.JSONField(required=False)


class PipelineSerializer(PipelineCreateSerializer):
    version = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()

    def to_representation(self, instance: tuple[Pipeline, Version]) -> dict[str, JSON]:
        return wire.pipeline(*instance)


class PipelinePageSerializer(serializers.Serializer[Any]):
    items = PipelineSerializer(many=True)
    token = serializers.CharField(allow_null=True, help_text="Of the next page; null on the last.")


class PipelineVersionSerializer(serializers.Serializer[Any]):
    version = serializers.CharField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField(allow_null=True)

    def to_representation(self, instance: Version) -> dict[str, JSON]:
        return wire.version(instance)


class PipelineVersionListSerializer(serializers.Serializer[Any]):
    items = PipelineVersionSerializer(many=True)


class PipelineComplaintSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    message = serializers.CharField()


class PipelineReportSerializer(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    errors = PipelineComplaintSerializer(many=True)  # type: ignore[assignment]


class PipelineDeletedSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    deleted = serializers.BooleanField()


class ExecutionCreateSerializer(serializers.Serializer[Any]):
    inputs = serializers.DictField(required=False)
    tag = serializers.CharField(required=False, help_text="Unique for ever; not a UUID.")
    version = serializers.CharField(required=False)
    metadata = serializers.DictField(required=False)


class ExecutionReplaySerializer(serializers.Serializer[Any]):
    from_stage = serializers.CharField()
    tag = serializers.CharField(required=False)
    pipeline_version = serializers.CharField(required=False)


class ExecutionCancelSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(required=False, allow_blank=True)


class StageApproveSerializer(serializers.Serializer[Any]):
    approved = serializers.BooleanField()
    comment = serializers.CharField(required=False, allow_blank=True)


class StageSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=STAGE_STATUSES)
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField()
    objects = serializers.IntegerField(help_text="That its stage holds.")
    run_ids = serializers.ListField(child=serializers.UUIDField())
    error = serializers.CharField(allow_null=True)
    waiting_for = serializers.CharField(allow_null=True)


class ExecutionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    pipeline_id = serializers.CharField()
    pipeline_version = serializers.CharField()
    status = serializers.ChoiceField(choices=EXECUTION_STATUSES)
    phase = serializers.CharField()
    tag = serializers.CharField(allow_null=True)
    attempt = serializers.IntegerField()
    inputs = serializers.DictField()
    outputs = serializers.DictField()
    trigger = serializers.DictField(allow_null=True)
    config_snapshot = serializers.DictField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    parent_execution_id = serializers.UUIDField(allow_null=True)
    root_correlation_id = serializers.CharField()
    metadata = serializers.DictField()
    error_info = serializers.DictField(allow_null=True)
    stages = StageSerializer(many=True)

    def to_representation(
        self, instance: tuple[Execution, list[Stage], dict[str, int]]
    ) -> dict[str, JSON]:
        return wire.execution(*instance)


class ExecutionPageSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    limit = serializers.IntegerField()
    offset = serializers.IntegerField()
    has_more = serializers.BooleanField()
    executions = ExecutionSerializer(many=True)


class DagNodeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=STAGE_STATUSES, allow_null=True)


class DagSerializer(serializers.Serializer[Any]):
    execution_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=EXECUTION_STATUSES)
    nodes = DagNodeSerializer(many=True)
    edges = serializers.ListField(child=serializers.DictField())


class TriggerMessageSerializer(serializers.Serializer[Any]):
    message = serializers.CharField()


class TriggerReadySerializer(serializers.Serializer[Any]):
    ready = serializers.BooleanField()


class TriggerConditionSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    status = serializers.BooleanField()
    reason = serializers.CharField()
    message = serializers.CharField()
    last_transition_time = serializers.DateTimeField()


class TriggerCursorSerializer(serializers.Serializer[Any]):
    position = serializers.IntegerField(allow_null=True)
    pending = serializers.IntegerField()
    oldest_pending_age_s = serializers.FloatField(allow_null=True)


class TriggerInstancesSerializer(serializers.Serializer[Any]):
    current = serializers.IntegerField()
    desired = serializers.IntegerField()
    min = serializers.IntegerField()
    max = serializers.IntegerField()


class TriggerStatusSerializer(serializers.Serializer[Any]):
    pipeline_id = serializers.CharField()
    state = serializers.ChoiceField(choices=TRIGGER_STATES)
    conditions = TriggerConditionSerializer(many=True)
    topic = serializers.CharField(allow_null=True)
    pipeline_version = serializers.CharField(allow_null=True)
    cursor = TriggerCursorSerializer()
    instances = TriggerInstancesSerializer()
    received = serializers.IntegerField()
    filtered = serializers.IntegerField()
    started = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    retried = serializers.IntegerField()
    dead_lettered = serializers.IntegerField()
    last_event_at = serializers.DateTimeField(allow_null=True)
    last_execution_id = serializers.UUIDField(allow_null=True)
    last_error = serializers.CharField(allow_null=True)


class ScheduleSerializer(serializers.Serializer[Any]):
    pipeline_id = serializers.CharField()
    schedule = serializers.CharField()
    timezone = serializers.CharField()
    paused = serializers.BooleanField()
    next_at = serializers.DateTimeField(allow_null=True)
    last_at = serializers.DateTimeField(allow_null=True)
    last_execution_id = serializers.UUIDField(allow_null=True)
    started = serializers.IntegerField()


class TriggerListSerializer(serializers.Serializer[Any]):
    items = TriggerStatusSerializer(many=True)


class TriggerTestSerializer(serializers.Serializer[Any]):
    data = serializers.JSONField()  # type: ignore[assignment]
    tag = serializers.CharField(required=False, allow_null=True, allow_blank=True)
    node = serializers.CharField(required=False, allow_null=True, allow_blank=True)
    meta = serializers.JSONField(required=False)


class TriggerTrialSerializer(serializers.Serializer[Any]):
    matched = serializers.BooleanField()
    reason = serializers.CharField(allow_null=True)
    trigger = serializers.DictField()
    steps = serializers.DictField()


class DeadLetterSerializer(serializers.Serializer[Any]):
    seq = serializers.IntegerField()
    topic = serializers.CharField()
    reason = serializers.CharField()
    attempts = serializers.IntegerField()
    execution_id = serializers.UUIDField(allow_null=True)
    message = serializers.DictField()
    created_at = serializers.DateTimeField()


class DeadLetterPageSerializer(serializers.Serializer[Any]):
    items = DeadLetterSerializer(many=True)
    has_more = serializers.BooleanField()


class TriggerRedriveSerializer(serializers.Serializer[Any]):
    seqs = serializers.ListField(child=serializers.IntegerField(), required=False)


class TriggerRedrivenSerializer(serializers.Serializer[Any]):
    redriven = serializers.IntegerField()
