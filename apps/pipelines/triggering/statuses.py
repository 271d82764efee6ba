"""What event triggers do, as it is seen from outside of their rows: any number of them for the same few reads."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from django.db.models import Count, F

from apps.core import clock
from apps.pipelines import queries
from apps.pipelines.language import documents
from apps.pipelines.language.plans import TriggerPlan
from apps.pipelines.models import Execution, Trigger, Version
from apps.pipelines.states import ExecutionStatus, TriggerState
from apps.pipelines.triggering import conditions
from apps.pipelines.triggering.conditions import Condition
from apps.topics import queries as topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.access.auth import Caller
    from apps.topics.queries import Backlog


@dataclass(frozen=True, slots=True)
class TriggerStatus:
    """An event trigger, what waits for it and what runs of it."""

    trigger: Trigger
    state: TriggerState
    pending: int
    oldest_pending_age_s: float | None
    running: int
    desired: int
    most: int


def trigger_status(*, pipeline_id: str, caller: Caller) -> TriggerStatus:
    """Return what the trigger of a pipeline does; one that was never started is stopped. Raises NotFound."""
    pipeline = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    row = Trigger.objects.filter(pk=pipeline_id).first()
    if row is None:
        row = Trigger(pipeline=pipeline, version=0, is_started=False)
    return statuses_of([row])[0]


def trigger_statuses(*, caller: Caller) -> list[TriggerStatus]:
    """Return what each trigger that was ever started does, by pipeline."""
    visible = queries.pipelines_visible_to(caller)
    return statuses_of(list(Trigger.objects.filter(pipeline__in=visible).order_by("pipeline_id")))


def statuses_of(rows: Sequence[Trigger]) -> list[TriggerStatus]:
    """Return what each of these triggers does, in their order."""
    able = queries.has_runner()
    plans, under_way = _plans(rows), _under_way(rows)
    backlogs = topics.backlogs([(row.topic, row.position or 0) for row in rows])
    found = []
    for row, backlog in zip(rows, backlogs, strict=True):
        if row.is_started:
            conditions.set_runner_ready(row, able)
            if backlog is None:
                # Deleted: nobody tells the trigger, which hears of its topic by what lands there.
                conditions.set_condition(row, Condition.TOPIC_RESOLVED, False, "TopicMissing")
        rules = plans.get(row.pipeline_id, TriggerPlan())
        running = under_way.get((row.pipeline_id, False), 0)
        pending, age = _pending(row, backlog)
        load = pending + under_way.get((row.pipeline_id, True), 0)
        most = rules.max_concurrency
        found.append(
            TriggerStatus(
                trigger=row,
                state=_state(row, has_runner=able, has_topic=backlog is not None),
                pending=load,
                oldest_pending_age_s=age,
                running=running,
                desired=(
                    min(max(ceil(load / rules.lag_threshold), 1), most) if load or running else 0
                ),
                most=most,
            )
        )
    return found


def _plans(rows: Sequence[Trigger]) -> dict[str, TriggerPlan]:
    pinned = Version.objects.filter(
        pipeline_id__in=[row.pipeline_id for row in rows], number=F("pipeline__trigger__version")
    )
    return {
        pipeline_id: documents.plan_of(text).trigger
        for pipeline_id, text in pinned.values_list("pipeline_id", "document")
    }


def _under_way(rows: Sequence[Trigger]) -> dict[tuple[str, bool], int]:
    """Count the executions of triggers: those that run, and those that are queued."""
    ids = [row.pipeline_id for row in rows]
    found = Execution.objects.filter(
        pipeline_id__in=ids, source_id=F("pipeline_id"), status=ExecutionStatus.RUNNING
    )
    counted = found.values("pipeline_id", "is_queued").annotate(n=Count("id"))
    return {(one["pipeline_id"], one["is_queued"]): one["n"] for one in counted}


def _state(row: Trigger, *, has_runner: bool, has_topic: bool) -> TriggerState:
    if not row.is_started:
        return TriggerState.STOPPED
    if row.is_paused:
        return TriggerState.PAUSED
    if row.position is None and has_topic:
        return TriggerState.STARTING
    # It listens, be it for a topic that is still to come, and nothing would come of it or something has gone wrong
    # with the last message.
    is_gone = row.position is not None and not conditions.holds(row, Condition.TOPIC_RESOLVED)
    if not has_runner or is_gone:
        return TriggerState.DEGRADED
    return TriggerState.FAILED if row.wake_at and row.last_error else TriggerState.LISTENING


def _pending(row: Trigger, backlog: Backlog | None) -> tuple[int, float | None]:
    """Return how many messages are behind the cursor, at most, and the age of the oldest in seconds."""
    if backlog is None or row.position is None or backlog.topic_id != row.topic_id:
        return 0, None
    if backlog.oldest_ts is None:
        return 0, None
    age = (clock.milliseconds(clock.now()) - backlog.oldest_ts) / 1000
    return max(backlog.head - row.position, 0), max(age, 0.0)
