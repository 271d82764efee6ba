"""The conditions of an event trigger (pipelines-storage.md §2): what holds, why, and since when."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from apps.core import clock

if TYPE_CHECKING:
    from apps.pipelines.models import Trigger

JSON = Any


class Condition(StrEnum):
    PIPELINE_RESOLVED = "PipelineResolved"
    TOPIC_RESOLVED = "TopicResolved"
    CURSOR_PINNED = "CursorPinned"
    RUNNER_READY = "RunnerReady"
    DEAD_LETTER_RESOLVED = "DeadLetterResolved"


def set_condition(
    trigger: Trigger, condition: Condition, holds: bool, reason: str, message: str = ""
) -> None:
    """Note on a trigger, which is saved by the caller, whether a condition holds; its time moves when that changes."""
    known = trigger.conditions.get(condition)
    if known is not None and known["status"] == holds:
        if (known["reason"], known["message"]) != (reason, message):
            known.update(reason=reason, message=message)
        return
    trigger.conditions[condition] = {
        "status": holds,
        "reason": reason,
        "message": message,
        "last_transition_time": clock.rfc3339(clock.now()),
    }


def set_runner_ready(trigger: Trigger, able: bool) -> None:
    """Note on a trigger whether a worker is there that would take its runs."""
    set_condition(trigger, Condition.RUNNER_READY, able, "WorkersReady" if able else "NoWorker")


def listed(trigger: Trigger) -> list[dict[str, JSON]]:
    """Return the conditions as the API shows them."""
    return [
        {"type": str(kind), **trigger.conditions[kind]}
        for kind in Condition
        if kind in trigger.conditions
    ]


def holds(trigger: Trigger, condition: Condition) -> bool:
    """Say whether a condition is known to hold."""
    return bool(trigger.conditions.get(condition, {}).get("status"))
