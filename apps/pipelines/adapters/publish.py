from __future__ import annotations

from typing import ClassVar

import msgspec

from apps.core.errors import Invalid
from apps.pipelines.adapters.base import (
    Adapter,
    AdapterFailed,
    Call,
    Publishes,
    optional,
    required,
)
from apps.pipelines.triggering.messages import HOPS
from apps.topics import queries as topics
from apps.topics.services import NewEvent, check_event


class Publish(Adapter):
    """Appends a message to a topic, in the transaction that completes the step: once, or not at all."""

    name = "publish"
    inputs: ClassVar = {
        "topic": required("string", "The topic."),
        "data": required("any", "The message."),
        "tag": optional("string"),
        "meta": optional("object", description="Beside the message; gyoza_hops is ours."),
    }

    def perform(self, call: Call) -> Publishes:
        """Say what is to be published."""
        topic = call.inputs["topic"]
        prefixes = tuple(call.execution.prefixes)
        if not topics.is_topic_name(topic):
            raise AdapterFailed(f"{topic!r} is not a topic name")
        if topics.is_reserved(topic):
            raise AdapterFailed(f"only the service writes to the topic {topic}")
        if prefixes and not topic.startswith(prefixes):
            raise AdapterFailed(f"the pipeline's key may not publish to the topic {topic}")
        meta = {**(call.inputs["meta"] or {}), HOPS: call.execution.hops + 1}
        message = NewEvent(
            topic=topic,
            data=msgspec.json.encode(call.inputs["data"]).decode(),
            tag=call.inputs["tag"],
            node=f"execution/{call.execution.id}",
            meta=msgspec.json.encode(meta).decode(),
        )
        try:
            check_event(message)
        except Invalid as exc:
            raise AdapterFailed(exc.message) from exc
        return Publishes(message)
