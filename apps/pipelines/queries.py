"""Reads of pipelines, executions and triggers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from django.db.models import Count, Q

from apps.core import sql
from apps.core.api.pagination import cut
from apps.core.digits import read_digits
from apps.core.errors import NotFound
from apps.pipelines.errors import NoSuchVersion
from apps.pipelines.language import documents
from apps.pipelines.models import DeadLetter, Execution, Pipeline, Stage, Trigger, Version
from apps.pipelines.states import ExecutionStatus, StageStatus
from apps.runs.models import Run, Worker
from apps.runs.states import WorkerState
from apps.topics import queries as topics

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django.db.models import QuerySet

    from apps.access.auth import Caller
    from apps.pipelines.execution.liveexecutions import LiveExecution
    from apps.pipelines.execution.livestages import LiveStage

JSON = Any


# --- pipelines -----------------------------------------------------------------------------------


def pipelines_visible_to(caller: Caller) -> QuerySet[Pipeline]:
    """Return the pipelines a key may see."""
    rows = Pipeline.objects.all()
    if not caller.prefixes:
        return rows
    allowed = Q()
    for prefix in caller.prefixes:
        allowed |= Q(id__startswith=prefix)
    return rows.filter(allowed)


def get_pipeline(*, pipeline_id: str, caller: Caller) -> Pipeline:
    """Return a pipeline. Raises NotFound."""
    # Postgres takes no text with NUL.
    row = (
        None if "\0" in pipeline_id else pipelines_visible_to(caller).filter(pk=pipeline_id).first()
    )
    if row is None:
        raise NotFound(f"Pipeline {pipeline_id} not found", pipeline_id=pipeline_id)
    return row


def get_version(pipeline: Pipeline, number: int | None) -> Version:
    """Return one version of a pipeline, the newest for None. Raises NoSuchVersion."""
    wanted = pipeline.latest if number is None else number
    row = Version.objects.filter(pipeline_id=pipeline.id, number=wanted).first()
    if row is None:
        raise NoSuchVersion(
            f"Pipeline {pipeline.id} has no version {wanted}", pipeline_id=pipeline.id
        )
    return row


@dataclass(frozen=True, slots=True)
class Listening:
    """A locked trigger, and the document of the version that it starts."""

    trigger: Trigger
    document: str


def lock_listening(pipeline_id: str) -> Listening | None:
    """Lock a trigger that takes messages; None if it does not, or if another dispatcher is at it."""
    rows = sql.run_bound("pipelines/lock_listening", pipeline_id=pipeline_id).rows
    if not rows:
        return None
    document = rows[0].pop("document")
    # Django's connection leaves jsonb as text.
    conditions = msgspec.json.decode(rows[0].pop("conditions"))
    trigger = Trigger(**rows[0], conditions=conditions)
    trigger._state.adding = False
    return Listening(trigger, document)


@dataclass(frozen=True, slots=True)
class Room:
    """What a trigger's turn begins from: how many of its executions are under way, whether any of its pipeline are
    queued, and where its topic stands.
    """

    under_way: int
    has_queued: bool
    head: topics.Head | None


def read_room(trigger: Trigger) -> Room:
    """Return what a turn of a locked trigger begins from."""
    [row] = sql.run_bound(
        "pipelines/read_room", pipeline_id=trigger.pipeline_id, topic=trigger.topic
    ).rows
    head = None
    if row["topic_id"] is not None:
        head = topics.Head(row["topic_id"], row["head"], row["largest"])
    return Room(row["under_way"], row["has_queued"], head)


def versions_of(pipeline: Pipeline) -> list[Version]:
    """Return the versions of a pipeline, newest first, without their documents."""
    rows = Version.objects.filter(pipeline_id=pipeline.id).defer("document")
    return list(rows.order_by("-number"))


def pipelines_page(
    *, caller: Caller, name: str | None, event: str | None, limit: int, after: str | None
) -> tuple[list[tuple[Pipeline, Version]], bool]:
    """Return a page of pipelines by id with their newest versions, and whether there is more."""
    rows = pipelines_visible_to(caller)
    if name is not None:
        rows = rows.filter(name=name)
    if event is not None:
        rows = rows.filter(event=event)
    if after is not None:
        rows = rows.filter(id__gt=after)
    page = list(rows.order_by("id")[: limit + 1])
    shown = page[:limit]
    newest = Q(pk__in=[])
    for row in shown:
        newest |= Q(pipeline_id=row.id, number=row.latest)
    versions = {version.pipeline_id: version for version in Version.objects.filter(newest)}
    return [(row, versions[row.id]) for row in shown], len(page) > limit


# --- triggers ------------------------------------------------------------------------------------


def dead_letters_page(
    *, pipeline_id: str, caller: Caller, after: int, limit: int
) -> tuple[list[DeadLetter], bool]:
    """Return dead letters of a pipeline's trigger by seq, and whether there are more. Raises NotFound."""
    get_pipeline(pipeline_id=pipeline_id, caller=caller)
    rows = DeadLetter.objects.filter(pipeline_id=pipeline_id, seq__gt=after)
    return cut(list(rows.order_by("seq", "topic_id")[: limit + 1]), limit)


def newest_dead_letters(pipeline_id: str, limit: int) -> list[DeadLetter]:
    """Return the newest dead letters of a pipeline's trigger, newest first."""
    rows = DeadLetter.objects.filter(pipeline_id=pipeline_id)
    return list(rows.order_by("-topic_id", "-seq")[:limit])


def has_runner() -> bool:
    """Say whether a worker is there that would take a run."""
    return Worker.objects.filter(state=WorkerState.READY).exists()


# --- executions ----------------------------------------------------------------------------------


def executions_visible_to(caller: Caller) -> QuerySet[Execution]:
    """Return the executions a key may see: those of the pipelines it may see."""
    rows = Execution.objects.all()
    if not caller.prefixes:
        return rows
    allowed = Q()
    for prefix in caller.prefixes:
        allowed |= Q(pipeline_id__startswith=prefix)
    return rows.filter(allowed)


def seqs_started(trigger: Trigger, seqs: Collection[int]) -> set[int]:
    """Return which of these messages of a trigger's topic have started an execution of its pipeline already."""
    found = Execution.objects.filter(
        pipeline_id=trigger.pipeline_id, source_topic_id=trigger.topic_id, source_seq__in=seqs
    )
    return {seq for seq in found.values_list("source_seq", flat=True) if seq is not None}


def is_running(execution_id: UUID) -> bool:
    """Say whether an execution is there and has not ended."""
    return Execution.objects.filter(pk=execution_id, status=ExecutionStatus.RUNNING).exists()


def get_execution(*, named: str, caller: Caller) -> Execution:
    """Return an execution by UUID or tag. Raises NotFound."""
    rows = executions_visible_to(caller)
    # Postgres takes no text with NUL.
    row = None if "\0" in named else rows.filter(_named(named)).first()
    if row is None:
        raise NotFound(f"Execution {named} not found", execution=named)
    return row


def _named(named: str) -> Q:
    try:
        return Q(pk=UUID(named))
    except ValueError:
        return Q(tag=named)


def executions_page(
    *,
    caller: Caller,
    pipeline_id: str | None,
    statuses: Sequence[str],
    tag: str | None,
    limit: int,
    offset: int,
) -> tuple[list[Execution], int]:
    """Return a page of executions, newest first, without their documents, and how many there are."""
    rows = executions_visible_to(caller)
    if pipeline_id is not None:
        rows = rows.filter(pipeline_id=pipeline_id)
    if statuses:
        rows = rows.filter(status__in=statuses)
    if tag is not None:
        rows = rows.filter(tag=tag)
    page = rows.order_by("-id")[offset : offset + limit]
    return list(page), rows.count()


def executions_beside(
    *,
    caller: Caller,
    pipeline_id: str | None = None,
    status: str | None = None,
    tag: str | None = None,
    older_than: UUID | None = None,
    newer_than: UUID | None = None,
    limit: int,
) -> tuple[list[Execution], bool]:
    """Return executions next to one, newest first, without what is heavy, and whether there are more in that direction."""
    rows = executions_visible_to(caller)
    if pipeline_id is not None:
        rows = rows.filter(pipeline_id=pipeline_id)
    if status is not None:
        rows = rows.filter(status=status)
    if tag is not None:
        rows = rows.filter(tag=tag)
    if newer_than is not None:
        page, has_more = cut(
            _light(rows.filter(pk__gt=newer_than).order_by("id"), limit + 1), limit
        )
        return page[::-1], has_more
    if older_than is not None:
        rows = rows.filter(pk__lt=older_than)
    return cut(_light(rows.order_by("-id"), limit + 1), limit)


def _light(rows: QuerySet[Execution], limit: int) -> list[Execution]:
    return list(rows.defer("document", "trigger", "inputs", "outputs", "metadata")[:limit])


def stage_counts(execution_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """Return how many stages of executions are in each status, in one query."""
    found: dict[UUID, dict[str, int]] = {}
    rows = Stage.objects.filter(execution_id__in=execution_ids).values("execution_id", "status")
    for row in rows.annotate(count=Count("position")).order_by():
        found.setdefault(row["execution_id"], {})[row["status"]] = row["count"]
    return found


def newest_executions(pipeline_id: str, limit: int) -> list[Execution]:
    """Return the newest executions of a pipeline without their documents, newest first."""
    return _light(Execution.objects.filter(pipeline_id=pipeline_id).order_by("-id"), limit)


def stages_by_execution(executions: Sequence[Execution]) -> dict[UUID, list[Stage]]:
    """Return the stages of executions, each in the order of its document, in one query."""
    found: dict[UUID, list[Stage]] = {execution.id: [] for execution in executions}
    rows = Stage.objects.filter(execution_id__in=list(found)).order_by("execution_id", "position")
    for stage in rows:
        found[stage.execution_id].append(stage)
    return found


def awaits_approval(execution: Execution | LiveExecution, stage: Stage | LiveStage) -> bool:
    """Say whether a stage waits for an answer that nobody has given yet."""
    if stage.status != StageStatus.PROCESSING or "approved" in (stage.note or {}):
        return False
    plan = documents.plan_of(execution.document)
    return plan.step(stage.name).work.adapter == "approve"


def run_states(run_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the states of runs that are there, by id."""
    return dict(Run.objects.filter(pk__in=run_ids).values_list("pk", "state"))


def leaf_outputs(execution_id: UUID, leaves: Sequence[str]) -> dict[str, JSON]:
    """Return the outputs of completed steps that no other step needs: the outputs of the execution."""
    rows = Stage.objects.filter(
        execution_id=execution_id, name__in=leaves, status=StageStatus.COMPLETED
    )
    return {stage.name: stage.outputs for stage in rows}


def version_number(value: JSON) -> int | None:
    """Read a version as it is shown, "3", or counted, 3; None for None. Raises NoSuchVersion for anything else."""
    if value is None:
        return None
    number = None if isinstance(value, bool) else read_digits(str(value), most=9)
    if number is None:
        raise NoSuchVersion(f"there is no version {value}")
    return number
