from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from apps.core import clock
from apps.definitions.specs import ALIASES, InputType
from apps.definitions.work import BACKOFFS

if TYPE_CHECKING:
    from apps.definitions.models import Definition

# The rules of the request bodies are in `definitions.work` and `definitions.specs`, which complain about everything at
# once; the serializers of this module state the shapes for OpenAPI and write answers.


INPUT_TYPES = [*map(str, InputType), *ALIASES]


class InputSpecSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=INPUT_TYPES)
    required = serializers.BooleanField(default=True)  # type: ignore[assignment]  # on the wire, too
    default = serializers.JSONField(default=None)  # null is any value, too
    description = serializers.CharField(required=False, allow_blank=True)
    enum = serializers.ListField(child=serializers.JSONField(), required=False)
    min = serializers.FloatField(required=False)
    max = serializers.FloatField(required=False)


class OutputSpecSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(choices=INPUT_TYPES)
    description = serializers.CharField(required=False, allow_blank=True)


class ConstraintsSerializer(serializers.Serializer[Any]):
    cpu = serializers.IntegerField(default=None, allow_null=True, min_value=0)
    ram_mb = serializers.IntegerField(default=None, allow_null=True, min_value=0)
    vram_mb = serializers.IntegerField(default=None, allow_null=True, min_value=0)
    gpu_id = serializers.IntegerField(default=None, allow_null=True, min_value=0)
    tags = serializers.ListField(child=serializers.CharField(), default=list)


class RetryPolicySerializer(serializers.Serializer[Any]):
    max_attempts = serializers.IntegerField(default=1, min_value=1, max_value=100)
    backoff = serializers.ChoiceField(choices=BACKOFFS, default="exponential")
    delay_s = serializers.FloatField(default=1, min_value=0)
    max_delay_s = serializers.FloatField(default=60, min_value=0)
    jitter = serializers.FloatField(default=0.1, min_value=0, max_value=1)


class EventDeliverySerializer(serializers.Serializer[Any]):
    topic = serializers.CharField(default="", allow_blank=True, max_length=255)
    attributes = serializers.DictField(default=dict)


class WorkSerializer(serializers.Serializer[Any]):
    image = serializers.CharField(required=False, allow_null=True)
    command = serializers.ListField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        allow_null=True,
        allow_empty=False,
    )
    python = serializers.CharField(required=False, allow_null=True)
    env = serializers.DictField(child=serializers.CharField(allow_blank=True), default=dict)
    input_specs = serializers.DictField(child=InputSpecSerializer(), default=dict)
    output_specs = serializers.DictField(child=OutputSpecSerializer(), default=dict)
    constraints = ConstraintsSerializer(required=False)
    retry_policy = RetryPolicySerializer(required=False)
    event_delivery = EventDeliverySerializer(required=False)
    timeout_s = serializers.FloatField(default=3600, allow_null=True)


class OpDefinitionCreateSerializer(WorkSerializer):
    id = serializers.RegexField(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    version = serializers.CharField(max_length=64)
    description = serializers.CharField(default="", allow_blank=True)


class OpDefinitionSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    version = serializers.CharField()
    description = serializers.CharField()
    image = serializers.CharField(allow_null=True)
    command = serializers.ListField(child=serializers.CharField(), allow_null=True)
    python = serializers.CharField(allow_null=True)
    env = serializers.DictField(child=serializers.CharField())
    input_specs = serializers.DictField(child=InputSpecSerializer())
    output_specs = serializers.DictField(child=OutputSpecSerializer())
    constraints = ConstraintsSerializer()
    retry_policy = RetryPolicySerializer()
    event_delivery = EventDeliverySerializer()
    timeout_s = serializers.FloatField(allow_null=True)
    created_at = serializers.DateTimeField()

    def to_representation(self, instance: Definition) -> dict[str, Any]:
        return {
            "id": instance.name,
            "version": instance.version,
            "description": instance.description,
            "image": instance.image,
            "command": instance.command,
            "python": instance.python,
            "env": instance.env,
            "input_specs": instance.input_specs,
            "output_specs": instance.output_specs,
            "constraints": instance.constraints,
            "retry_policy": instance.retry_policy,
            "event_delivery": instance.event_delivery,
            "timeout_s": instance.timeout_s,
            "created_at": clock.rfc3339(instance.created_at),
        }


class OpDefinitionPageSerializer(serializers.Serializer[Any]):
    data = OpDefinitionSerializer(many=True)  # type: ignore[assignment]  # `data` is the name on the wire
    has_more = serializers.BooleanField()


class DeletedSerializer(serializers.Serializer[Any]):
    deleted = serializers.IntegerField()
