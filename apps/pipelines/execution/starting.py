"""How executions begin: made with all their stages, started when their pipeline and their trigger have room."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import IntegrityError, transaction
from django.db.models import Count

from apps.core import clock, correlation, ids
from apps.core.queue import nudge_on_commit
from apps.pipelines import transitions
from apps.pipelines.errors import TagTaken
from apps.pipelines.execution.liveexecutions import LiveExecution
from apps.pipelines.language import documents
from apps.pipelines.models import Execution, Pipeline, Trigger, Version
from apps.pipelines.states import ExecutionStatus
from apps.pipelines.transitions import ADVANCE_TASK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from apps.pipelines.transitions import Moves

JSON = Any

# A nudge: there are triggers whose topics have grown.
DISPATCH_TASK = "pipelines.dispatch_triggers"
# Queued executions looked at when somebody makes room.
_LOOK_AHEAD = 1_000


@dataclass(frozen=True, slots=True)
class Start:
    """An execution to begin. `trigger` is JSON text."""

    pipeline_id: str
    version: int
    document: str
    created_by: str
    prefixes: tuple[str, ...] = ()
    inputs: dict[str, JSON] = field(default_factory=dict)
    tag: str | None = None
    trigger: str | None = None
    metadata: dict[str, JSON] = field(default_factory=dict)
    hops: int = 0
    parent_id: UUID | None = None
    parent_stage: str | None = None
    correlation_id: str = ""
    source_topic_id: int | None = None
    source_seq: int | None = None
    source_key: str | None = None
    scheduled_at: datetime | None = None


def start(request: Start, *, source: Trigger | None = None) -> Execution:
    """Store an execution and let it begin if there is room; in the caller's transaction. Raises TagTaken."""
    together = prepare([request], source=source)
    store(together)
    return Execution.objects.get(pk=together[0].execution.id)


def prepare(requests: Sequence[Start], *, source: Trigger | None = None) -> list[Moves]:
    """Return executions to be stored; those that must wait for their turn are queued."""
    now = clock.now()
    together = []
    for request in requests:
        plan = documents.plan_of(request.document)
        waits = plan.max_concurrent_executions is not None or request.source_key is not None
        identity = ids.uuid7()
        execution = LiveExecution(
            id=identity,
            pipeline_id=request.pipeline_id,
            pipeline_version=request.version,
            is_queued=waits,
            tag=request.tag,
            document=request.document,
            trigger=request.trigger,
            inputs=request.inputs,
            metadata=request.metadata,
            hops=request.hops,
            parent_id=request.parent_id,
            parent_stage=request.parent_stage,
            root_correlation_id=request.correlation_id or correlation.current() or identity.hex,
            created_by=request.created_by,
            prefixes=list(request.prefixes),
            created_at=now,
            started_at=None if waits else now,
            wake_at=now,
            deadline_at=(
                None if waits or plan.timeout_s is None else now + timedelta(seconds=plan.timeout_s)
            ),
            source_id=None if source is None else source.pk,
            source_topic_id=request.source_topic_id,
            source_seq=request.source_seq,
            source_key=request.source_key,
            scheduled_at=request.scheduled_at,
        )
        together.append(transitions.new(execution, [step.name for step in plan.steps]))
    return together


def store(together: Sequence[Moves]) -> None:
    """Store executions of one pipeline, in the caller's transaction, and let queued ones begin. Raises TagTaken."""
    first = together[0].execution
    try:
        # A tag that is taken must not spoil the caller's transaction; nothing else of this is expected.
        with transaction.atomic(savepoint=first.tag is not None):
            transitions.create(together)
    except IntegrityError as exc:
        cause = exc.__cause__
        name = cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None
        if name is None or "tag" not in name:
            raise
        raise TagTaken(f"an execution has the tag {first.tag}", tag=first.tag) from exc
    if any(moves.execution.is_queued for moves in together):
        release_queued(first.pipeline_id)
    if any(moves.execution.wake_at is not None for moves in together):
        nudge_on_commit(ADVANCE_TASK)


def release_queued(pipeline_id: str) -> int:
    """Let queued executions of a pipeline begin, oldest first, as far as there is room; return how many.

    Room is what `max_concurrent_executions` of each one's version leaves, what its trigger's `max_concurrency`
    leaves, and that nothing with its ordering key is under way.
    """
    with transaction.atomic(savepoint=False):
        # One at a time per pipeline: two that count at once would both see the same room.
        pipeline = Pipeline.objects.select_for_update(no_key=True).filter(pk=pipeline_id)
        list(pipeline.values_list("pk"))
        waiting = Execution.objects.filter(
            pipeline_id=pipeline_id, status=ExecutionStatus.RUNNING, is_queued=True
        )
        columns = ("id", "source_id", "source_key")
        queued = list(waiting.order_by("id").values_list(*columns)[:_LOOK_AHEAD])
        if not queued:
            return 0
        room = _Room(pipeline_id)
        begun = 0
        for execution_id, source_id, key in queued:
            if room.is_blocked(source_id, key):
                continue
            with transitions.locked(execution_id) as moves:
                execution = moves.execution
                if not execution.is_queued or execution.status != ExecutionStatus.RUNNING:
                    continue
                plan = documents.plan_of(execution.document)
                if not room.has_place(plan.max_concurrent_executions):
                    break
                deadline = plan.timeout_s and moves.now + timedelta(seconds=plan.timeout_s)
                transitions.begin(moves, deadline_at=deadline or None)
                execution.wake_at = moves.now
            room.take(source_id, key)
            begun += 1
        if begun:
            nudge_on_commit(ADVANCE_TASK)
        return begun


class _Room:
    """What is under way of a pipeline, and what more there may be."""

    def __init__(self, pipeline_id: str) -> None:
        begun = Execution.objects.filter(
            pipeline_id=pipeline_id, status=ExecutionStatus.RUNNING, is_queued=False
        )
        self._running = 0
        self._by_source: dict[str, int] = {}
        for row in begun.values("source_id").annotate(n=Count("id")):
            self._running += row["n"]
            if row["source_id"] is not None:
                self._by_source[row["source_id"]] = row["n"]
        self._keys = set(
            begun.filter(source_key__isnull=False).values_list("source_id", "source_key")
        )
        trigger = Trigger.objects.filter(pk=pipeline_id).first()
        self._limits = {} if trigger is None else {trigger.pk: max_concurrency(trigger)}
        # A key that waits holds back what came after it.
        self._waiting: set[tuple[str | None, str]] = set()

    def is_blocked(self, source_id: str | None, key: str | None) -> bool:
        """Say whether an execution must wait for its trigger or its key; later ones of its key then wait, too."""
        if source_id is None:
            return False
        full = self._by_source.get(source_id, 0) >= self._limits.get(source_id, 10**9)
        if key is None:
            return full
        pair = (source_id, key)
        if full or pair in self._keys or pair in self._waiting:
            self._waiting.add(pair)
            return True
        return False

    def has_place(self, limit: int | None) -> bool:
        return limit is None or self._running < limit

    def take(self, source_id: str | None, key: str | None) -> None:
        self._running += 1
        if source_id is not None:
            self._by_source[source_id] = self._by_source.get(source_id, 0) + 1
            if key is not None:
                self._keys.add((source_id, key))


def max_concurrency(trigger: Trigger) -> int:
    """Return how many executions a trigger may have under way."""
    text = Version.objects.values_list("document", flat=True).get(
        pipeline_id=trigger.pipeline_id, number=trigger.version
    )
    return documents.plan_of(text).trigger.max_concurrency
