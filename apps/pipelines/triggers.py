"""What can be done with event triggers: one function per intention (pipelines-storage.md §2)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from apps.access import services as access
from apps.core.errors import Forbidden, GyozaError, IllegalTransition
from apps.core.queue import nudge_on_commit
from apps.core.sql import AWAY
from apps.pipelines import queries, transitions
from apps.pipelines.errors import NoEventOption, TriggerNotStarted
from apps.pipelines.execution import advancing, starting, steprun
from apps.pipelines.execution.starting import DISPATCH_TASK, Start
from apps.pipelines.language import documents, filters
from apps.pipelines.models import DeadLetter, Execution, Trigger, Version
from apps.pipelines.triggering import conditions, messages, subscriptions
from apps.pipelines.triggering.conditions import Condition
from apps.topics import queries as topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.access.auth import Caller

log = logging.getLogger(__name__)

JSON = Any


def start_trigger(*, pipeline_id: str, version: int | None, caller: Caller) -> Trigger:
    """Subscribe a pipeline to its topic, or put a new subscription in the place of the old one, which keeps its cursor.

    Raises NotFound, NoSuchVersion, NoEventOption, Forbidden; the old subscription then goes on.
    """
    pipeline = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    chosen = queries.get_version(pipeline, version)
    plan = documents.plan_of(chosen.document)
    if not plan.event:
        raise NoEventOption("Pipeline does not have an event option")
    if not caller.sees(plan.event):
        raise Forbidden(f"this key may not read the topic {plan.event}", topic=plan.event)
    with transaction.atomic():
        trigger = subscriptions.lock_or_make(pipeline_id)
        left = trigger.topic
        goes_on = trigger.topic == plan.event and trigger.is_started
        if not goes_on:
            trigger.topic_id = trigger.position = None
        trigger.topic, trigger.version = plan.event, chosen.number
        trigger.is_started, trigger.is_paused, trigger.wake_at = True, False, None
        trigger.created_by, trigger.prefixes = caller.owner, list(caller.prefixes)
        trigger.last_error, trigger.stumbles = "", 0
        conditions.set_condition(trigger, Condition.PIPELINE_RESOLVED, True, "PipelineFound")
        _resolve_dead_letter(trigger, plan.trigger.dead_letter)
        trigger.save()
        if trigger.position is None:
            # A subscription that waits for its topic to appear is for all of it.
            subscriptions.pin(trigger, start="earliest" if goes_on else plan.trigger.start)
            trigger.save()
        if left and left != trigger.topic:
            subscriptions.unfollow(left)
        access.audit(
            caller=caller, action="trigger.start", target=pipeline_id, version=chosen.number
        )
        nudge_on_commit(DISPATCH_TASK)
    return trigger


def stop_trigger(*, pipeline_id: str, caller: Caller) -> None:
    """Take no more messages and drop the cursor; what runs goes on. Raises NotFound; stopping twice is fine."""
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    with transaction.atomic():
        trigger = Trigger.objects.select_for_update(no_key=True).filter(pk=pipeline_id).first()
        if trigger is None or not trigger.is_started:
            return
        trigger.is_started = trigger.is_paused = False
        trigger.topic_id = trigger.position = trigger.wake_at = None
        trigger.conditions = {}
        trigger.save()
        subscriptions.unfollow(trigger.topic)
        access.audit(caller=caller, action="trigger.stop", target=pipeline_id)


def pause_trigger(*, pipeline_id: str, caller: Caller) -> Trigger:
    """Take no more messages until resumed; the cursor stays. Raises NotFound, TriggerNotStarted."""
    return _set_paused(pipeline_id, paused=True, caller=caller)


def resume_trigger(*, pipeline_id: str, caller: Caller) -> Trigger:
    """Take messages again, from where it was paused. Raises NotFound, TriggerNotStarted."""
    return _set_paused(pipeline_id, paused=False, caller=caller)


def is_ready(*, pipeline_id: str, caller: Caller) -> bool:
    """Say whether a message would start an execution now: subscribed, pinned, worker there. Raises NotFound.

    A topic that is still to come is read from its beginning; one that has gone is waited for by nobody who publishes.
    """
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    trigger = Trigger.objects.filter(pk=pipeline_id, is_started=True, is_paused=False).first()
    if trigger is None or not queries.has_runner():
        return False
    return trigger.position is None or topics.find_head(trigger.topic) is not None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a message would do."""

    matched: bool
    reason: str | None
    trigger: JSON
    steps: dict[str, JSON]


def try_message(*, pipeline_id: str, message: JSON, caller: Caller) -> Trial:
    """Say whether a message would start an execution, and with which inputs of its first steps; nothing is started.

    `message` is a record: data, tag, node, meta. Raises NotFound.
    """
    pipeline = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    trigger = Trigger.objects.filter(pk=pipeline_id, is_started=True).first()
    chosen = queries.get_version(pipeline, trigger.version if trigger else None)
    plan = documents.plan_of(chosen.document)
    seen = {
        "type": "event",
        "topic": plan.event,
        "seq": 0,
        "ts": 0,
        "node": None,
        "tag": None,
        "meta": None,
        "data": None,
        **message,
        "attempt": 1,
    }
    reason = filters.refusal(plan.trigger.filters, seen)
    if reason is None and messages.hops_of(seen) >= messages.MOST_HOPS:
        reason = "loop"
    steps = {} if reason else steprun.first_inputs(plan, pipeline, chosen, seen)
    return Trial(matched=reason is None, reason=reason, trigger=seen, steps=steps)


def redrive(*, pipeline_id: str, seqs: Sequence[int] | None, caller: Caller) -> int:
    """Take dead letters up again, those of these seqs or all; return how many.

    An execution that failed goes on from its failed steps; a message that went in a loop starts one. Raises NotFound.
    """
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    rows = DeadLetter.objects.filter(pipeline_id=pipeline_id).order_by("topic_id", "seq")
    if seqs is not None:
        rows = rows.filter(seq__in=seqs)
    count = 0
    for letter in rows:
        try:
            count += _take_up(letter, caller)
        except (GyozaError, *AWAY):
            raise
        except Exception:
            # What the dispatcher has stumbled over may still be so; it must not keep back the others.
            log.exception("the dead letter %s of %s can't be taken up", letter, pipeline_id)
    access.audit(caller=caller, action="trigger.redrive", target=pipeline_id, redriven=count)
    return count


def _take(letter: DeadLetter) -> bool:
    gone, _ = DeadLetter.objects.filter(pk=letter.pk).delete()
    return gone > 0


def _take_up(letter: DeadLetter, caller: Caller) -> bool:
    """Let the execution of a letter go on; the letter is gone when it does, not before. Return whether it was there."""
    execution = letter.execution_id and Execution.objects.filter(pk=letter.execution_id).first()
    if not execution:
        return _start_again(letter, caller)
    if not DeadLetter.objects.filter(pk=letter.pk).exists():
        return False
    taken: list[bool] = []
    try:
        advancing.retry_execution(
            execution,
            reason=f"redriven by {caller.name}",
            also=lambda: taken.append(_take(letter)),
        )
    except IllegalTransition:
        # Retried by somebody else meanwhile. Should it have failed again since, the letter is that of this failure.
        with transitions.locked(execution.id) as moves:
            if moves.execution.status not in advancing.RETRIABLE:
                taken.append(_take(letter))
    return any(taken)


def _start_again(letter: DeadLetter, caller: Caller) -> bool:
    with transaction.atomic():
        if not _take(letter):
            return False
        trigger = Trigger.objects.filter(pk=letter.pipeline_id).first()
        if trigger is not None:
            _start(letter, trigger, caller)
    return True


def _start(letter: DeadLetter, trigger: Trigger, caller: Caller) -> None:
    version = Version.objects.get(pipeline_id=letter.pipeline_id, number=trigger.version)
    starting.start(
        Start(
            pipeline_id=letter.pipeline_id,
            version=version.number,
            document=version.document,
            created_by=caller.owner,
            prefixes=caller.prefixes,
            trigger=letter.message,
        ),
        source=trigger,
    )


def _set_paused(pipeline_id: str, *, paused: bool, caller: Caller) -> Trigger:
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    with transaction.atomic():
        trigger = (
            Trigger.objects.select_for_update(no_key=True)
            .filter(pk=pipeline_id, is_started=True)
            .first()
        )
        if trigger is None:
            raise TriggerNotStarted(
                f"the trigger of {pipeline_id} is not started", pipeline_id=pipeline_id
            )
        if trigger.is_paused != paused:
            trigger.is_paused = paused
            trigger.save(update_fields=["is_paused"])
            action = "trigger.pause" if paused else "trigger.resume"
            access.audit(caller=caller, action=action, target=pipeline_id)
            nudge_on_commit(DISPATCH_TASK)
    return trigger


def _resolve_dead_letter(trigger: Trigger, dead_letter: str | None) -> None:
    if dead_letter is None:
        conditions.set_condition(trigger, Condition.DEAD_LETTER_RESOLVED, True, "NoDeadLetter")
    else:
        exists = topics.find_head(dead_letter) is not None
        reason = "TopicFound" if exists else "CreatedWhenNeeded"
        conditions.set_condition(trigger, Condition.DEAD_LETTER_RESOLVED, True, reason)
