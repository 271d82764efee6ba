from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from apps.runs import wire
from apps.runs.states import EventType, RunState, WorkerKind, WorkerState

if TYPE_CHECKING:
    from apps.runs.models import Run, RunEvent
    from apps.runs.queries import AttemptView, WorkerLoad

# The fields state the shapes for OpenAPI; `runs.wire` writes them, because DRF's walk over the fields costs more than
# the query of a page. A test compares the two. Rules of the request bodies are in `runs.api.requests`.

JSON = Any


class RunConstraintsSerializer(serializers.Serializer[Any]):
    cpu = serializers.IntegerField(allow_null=True)
    ram_mb = serializers.IntegerField(allow_null=True)
    vram_mb = serializers.IntegerField(allow_null=True)
    gpu_id = serializers.IntegerField(allow_null=True)
    tags = serializers.ListField(child=serializers.CharField())


class RunRetryPolicySerializer(serializers.Serializer[Any]):
    max_attempts = serializers.IntegerField()
    backoff = serializers.CharField()
    delay_s = serializers.FloatField()
    max_delay_s = serializers.FloatField()
    jitter = serializers.FloatField()


class RunEventDeliverySerializer(serializers.Serializer[Any]):
    topic = serializers.CharField(allow_blank=True)
    attributes = serializers.DictField()


class ExecutionSummarySerializer(serializers.Serializer[Any]):
    duration_ms = serializers.IntegerField(allow_null=True)
    worker_id = serializers.CharField(allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    gpu_id = serializers.IntegerField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)


class EventSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(help_text="0, 1, 2 … within the attempt.")
    t = serializers.DateTimeField(help_text="When it happened.")
    type = serializers.ChoiceField(choices=list(EventType))
    msg = serializers.JSONField(help_text="Text, or 0–100 for PROGRESS.")
    state = serializers.ChoiceField(choices=list(RunState))
    payload = serializers.DictField(help_text="What the type tells.")

    def to_representation(self, instance: RunEvent) -> dict[str, JSON]:
        return wire.event(instance)


class OpRunSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=list(RunState))
    priority = serializers.IntegerField(min_value=-1000, max_value=1000)
    progress = serializers.IntegerField(min_value=0, max_value=100)
    current_attempt = serializers.IntegerField(min_value=1)
    image = serializers.CharField(allow_null=True)
    command = serializers.ListField(child=serializers.CharField(), allow_null=True)
    python = serializers.CharField(allow_null=True)
    inputs = serializers.DictField()
    outputs = serializers.DictField()
    op_definition = serializers.CharField(allow_null=True)
    op_version = serializers.CharField(allow_null=True)
    constraints = RunConstraintsSerializer()
    retry_policy = RunRetryPolicySerializer()
    event_delivery = RunEventDeliverySerializer()
    timeout_s = serializers.FloatField(allow_null=True)
    execution_summary = ExecutionSummarySerializer()
    createdAt = serializers.DateTimeField()  # noqa: N815 - the name on the wire
    updatedAt = serializers.DateTimeField()  # noqa: N815 - the name on the wire
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    scheduled_at = serializers.DateTimeField(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    metadata = serializers.DictField()
    execution_id = serializers.UUIDField(allow_null=True)
    step = serializers.CharField(allow_null=True)

    def to_representation(self, instance: Run) -> dict[str, JSON]:
        return wire.run(instance)


class OpRunDetailSerializer(OpRunSerializer):
    events = EventSerializer(many=True)

    def __init__(self, instance: Run | None = None, *, events: Any = (), **kwargs: Any) -> None:
        super().__init__(instance, **kwargs)
        self._events = events

    def to_representation(self, instance: Run) -> dict[str, JSON]:
        return {**wire.run(instance), "events": [wire.event(event) for event in self._events]}


class OpRunPageSerializer(serializers.Serializer[Any]):
    data = OpRunSerializer(many=True)  # type: ignore[assignment]  # the name on the wire
    has_more = serializers.BooleanField()


class OpRunBatchSerializer(serializers.Serializer[Any]):
    data = OpRunSerializer(many=True)  # type: ignore[assignment]  # the name on the wire


class EventListSerializer(serializers.Serializer[Any]):
    data = EventSerializer(many=True)  # type: ignore[assignment]  # the name on the wire


class AttemptSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField(min_value=1)
    state = serializers.ChoiceField(choices=list(RunState))
    progress = serializers.IntegerField(min_value=0, max_value=100)
    outputs = serializers.DictField()
    execution_summary = ExecutionSummarySerializer()
    queued_at = serializers.DateTimeField()
    assigned_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    events = EventSerializer(many=True)

    def to_representation(self, instance: AttemptView) -> dict[str, JSON]:
        return wire.attempt(instance)


class AttemptListSerializer(serializers.Serializer[Any]):
    data = AttemptSerializer(many=True)  # type: ignore[assignment]  # the name on the wire


class GpuSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(min_value=0)
    vram_mb = serializers.IntegerField(min_value=0)


class ResourcesSerializer(serializers.Serializer[Any]):
    cpu = serializers.IntegerField(min_value=0, default=0)
    ram_mb = serializers.IntegerField(min_value=0, default=0)
    gpus = GpuSerializer(many=True, required=False)


class WorkerResourcesSerializer(serializers.Serializer[Any]):
    total = ResourcesSerializer()
    free = ResourcesSerializer()


class WorkerSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    kind = serializers.ChoiceField(choices=list(WorkerKind))
    state = serializers.ChoiceField(choices=list(WorkerState))
    executors = serializers.ListField(child=serializers.CharField())
    slots = serializers.IntegerField(allow_null=True)
    resources = WorkerResourcesSerializer()
    tags = serializers.ListField(child=serializers.CharField())
    running = serializers.ListField(child=serializers.UUIDField())
    hostname = serializers.CharField()
    registered_at = serializers.DateTimeField()
    last_heartbeat_at = serializers.DateTimeField()

    def to_representation(self, instance: WorkerLoad) -> dict[str, JSON]:
        return wire.worker(instance)


class WorkerListSerializer(serializers.Serializer[Any]):
    data = WorkerSerializer(many=True)  # type: ignore[assignment]  # the name on the wire


class HeartbeatAnswerSerializer(serializers.Serializer[Any]):
    cancel = serializers.ListField(child=serializers.UUIDField())
    expires_at = serializers.DateTimeField()


class ClaimedOpRunSerializer(OpRunSerializer):
    env = serializers.DictField(child=serializers.CharField())

    def to_representation(self, instance: Run) -> dict[str, JSON]:
        return {**wire.run(instance), "env": instance.env}


class ClaimedSerializer(serializers.Serializer[Any]):
    run = ClaimedOpRunSerializer()
    lease = serializers.CharField()


class ClaimedListSerializer(serializers.Serializer[Any]):
    data = ClaimedSerializer(many=True)  # type: ignore[assignment]  # the name on the wire


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.CharField()
