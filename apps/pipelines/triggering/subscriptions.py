"""What a trigger follows, and from where."""

from __future__ import annotations

from apps.core.errors import NotFound
from apps.pipelines.models import Pipeline, Trigger
from apps.pipelines.triggering import conditions
from apps.pipelines.triggering.conditions import Condition
from apps.topics import services as topics


def pin(trigger: Trigger, *, start: str | int) -> None:
    """Find the topic of a trigger and put the cursor there, unless it is on this very topic already.

    Call it in the transaction that holds the trigger; it locks the topic. A topic that was made anew is read from its
    beginning, and so is one that appears after the trigger was started.
    """
    head = topics.follow_topic(topic=trigger.topic, is_followed=lambda: _is_followed(trigger.topic))
    if head is None:
        conditions.set_condition(trigger, Condition.TOPIC_RESOLVED, False, "TopicMissing")
        if trigger.position is None:
            conditions.set_condition(trigger, Condition.CURSOR_PINNED, True, "AtBeginning")
        return
    conditions.set_condition(trigger, Condition.TOPIC_RESOLVED, True, "TopicFound")
    if trigger.topic_id == head.topic_id and trigger.position is not None:
        return
    reason = "TopicRecreated" if trigger.topic_id is not None else "Pinned"
    if start == "latest" and trigger.topic_id is None:
        trigger.position = head.seq
    else:
        trigger.position = min(start, head.seq) if isinstance(start, int) else 0
    trigger.topic_id = head.topic_id
    conditions.set_condition(trigger, Condition.CURSOR_PINNED, True, reason)


def lock_or_make(pipeline_id: str) -> Trigger:
    """Lock the trigger of a pipeline and then the pipeline, the order of a turn, whoever else is at it.

    A trigger that was never started is made, and stopped. Raises NotFound.
    """
    fresh = Trigger(pipeline_id=pipeline_id, version=0, is_started=False)
    Trigger.objects.bulk_create([fresh], ignore_conflicts=True)
    trigger = Trigger.objects.select_for_update(no_key=True).filter(pk=pipeline_id).first()
    pipelines = Pipeline.objects.select_for_update(no_key=True)
    if trigger is None or pipelines.filter(pk=pipeline_id).first() is None:
        raise NotFound(f"Pipeline {pipeline_id} not found", pipeline_id=pipeline_id)
    return trigger


def unfollow(topic: str) -> None:
    """Let a topic know who still follows it, in the transaction in which a trigger has left it."""
    topics.follow_topic(topic=topic, is_followed=lambda: _is_followed(topic))


def _is_followed(topic: str) -> bool:
    return Trigger.objects.filter(topic=topic, is_started=True).exists()
