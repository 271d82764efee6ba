"""What can be done with pipelines and executions: one function per intention (pipelines-storage.md §1, §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import psycopg
from django.db import IntegrityError, transaction

from apps.access import services as access
from apps.core import clock, ids
from apps.core.errors import Forbidden, IllegalTransition, Invalid, NotFound
from apps.core.queue import nudge_on_commit
from apps.definitions import queries as definitions
from apps.pipelines import queries, transitions
from apps.pipelines.adapters import registry
from apps.pipelines.errors import PipelineExists, PipelineInUse
from apps.pipelines.execution import advancing, contents, graph, starting
from apps.pipelines.execution.starting import Start
from apps.pipelines.language import documents, steps, tags
from apps.pipelines.language.steps import World
from apps.pipelines.models import Execution, Pipeline, Version
from apps.pipelines.schedules import services as schedules
from apps.pipelines.states import FINAL, ExecutionStatus, StageStatus
from apps.pipelines.transitions import ADVANCE_TASK
from apps.pipelines.triggering import subscriptions
from apps.storage import services as storage

if TYPE_CHECKING:
    from apps.access.auth import Caller
    from apps.core.body import FieldError
    from apps.pipelines.language.documents import Document

JSON = Any


# --- pipelines -----------------------------------------------------------------------------------


def create_pipeline(*, body: JSON, caller: Caller) -> tuple[Pipeline, Version]:
    """Store a new pipeline as its version 1. Raises Invalid with every complaint, Forbidden, PipelineExists."""
    document = _read(body, caller)
    identity = document.id or f"pipeline-{ids.uuid7().hex}"
    _require_names(identity, document, caller)
    now = clock.now()
    try:
        with transaction.atomic():
            pipeline = Pipeline.objects.create(
                id=identity,
                name=document.plan.name,
                event=document.plan.event,
                created_at=now,
                updated_at=now,
            )
            version = _add_version(pipeline, body, caller)
            schedules.keep_schedule(pipeline=pipeline, plan=document.plan.schedule, caller=caller)
            access.audit(caller=caller, action="pipeline.create", target=identity)
    except IntegrityError as exc:
        cause = exc.__cause__
        if (
            not isinstance(cause, psycopg.Error)
            or cause.diag.constraint_name != "pipelines_pipeline_pkey"
        ):
            raise
        raise PipelineExists(f"there is a pipeline {identity}", pipeline_id=identity) from exc
    return pipeline, version


def replace_pipeline(*, pipeline_id: str, body: JSON, caller: Caller) -> tuple[Pipeline, Version]:
    """Make a new version, which is the latest. Raises NotFound, Invalid, Forbidden."""
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    document = _read(body, caller)
    if document.id not in (None, pipeline_id):
        raise Invalid.of([("id", f"is {pipeline_id} and stays so")])
    _require_names(pipeline_id, document, caller)
    with transaction.atomic():
        pipeline = Pipeline.objects.select_for_update(no_key=True).filter(pk=pipeline_id).first()
        if pipeline is None:
            raise NotFound(f"Pipeline {pipeline_id} not found", pipeline_id=pipeline_id)
        pipeline.name, pipeline.event = document.plan.name, document.plan.event
        pipeline.latest += 1
        pipeline.updated_at = clock.now()
        pipeline.save(update_fields=["name", "event", "latest", "updated_at"])
        version = _add_version(pipeline, body, caller)
        schedules.keep_schedule(pipeline=pipeline, plan=document.plan.schedule, caller=caller)
        access.audit(
            caller=caller, action="pipeline.replace", target=pipeline_id, version=pipeline.latest
        )
    return pipeline, version


def apply_pipeline(*, body: JSON, caller: Caller) -> tuple[Pipeline, Version, bool]:
    """Make a pipeline what a document says: create it, or make a new version if that says anything else.

    Returns it, its newest version and whether it was created. Raises Invalid, Forbidden.
    """
    identity = body.get("id")
    known = None
    if isinstance(identity, str):
        known = queries.pipelines_visible_to(caller).filter(pk=identity).first()
    if known is None:
        return *create_pipeline(body=body, caller=caller), True
    pipeline, version, _ = revise_pipeline(pipeline_id=known.id, body=body, caller=caller)
    return pipeline, version, False


def revise_pipeline(
    *, pipeline_id: str, body: JSON, caller: Caller
) -> tuple[Pipeline, Version, bool]:
    """Make a new version of a pipeline if a document says anything else than the newest; return whether it did.

    Raises NotFound, Invalid, Forbidden.
    """
    known = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    newest = queries.get_version(known, None)
    _read(body, caller)
    if newest.document == _said(body):
        return known, newest, False
    return *replace_pipeline(pipeline_id=pipeline_id, body=body, caller=caller), True


def delete_pipeline(*, pipeline_id: str, force: bool, caller: Caller) -> None:
    """Delete a pipeline with all versions and its trigger; its executions stay.

    Raises NotFound, and PipelineInUse while it runs or listens, unless `force` stops both first.
    """
    queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    with transaction.atomic():
        trigger = subscriptions.lock_or_make(pipeline_id)
        pipeline = Pipeline.objects.select_for_update().get(pk=pipeline_id)
        running = Execution.objects.filter(
            pipeline_id=pipeline_id, status=ExecutionStatus.RUNNING
        ).values_list("id", flat=True)
        listens = trigger.is_started
        if (running or listens) and not force:
            raise PipelineInUse(
                f"pipeline {pipeline_id} has {len(running)} running executions"
                + (" and a started trigger" if listens else ""),
                pipeline_id=pipeline_id,
            )
        for execution_id in running:
            with transitions.locked(execution_id) as moves:
                why = f"its pipeline was deleted by {caller.name}"
                transitions.request_cancel(moves, reason=why)
                moves.execution.wake_at = moves.now
                nudge_on_commit(ADVANCE_TASK)
        schedules.remove_schedule(pipeline)
        pipeline.delete()
        if listens:
            subscriptions.unfollow(trigger.topic)
        access.audit(caller=caller, action="pipeline.delete", target=pipeline_id, force=force)


def validate_pipeline(*, body: JSON, caller: Caller) -> list[FieldError]:
    """Return everything that is wrong with a document; nothing is saved."""
    return documents.complaints(body, world=_world(body, caller))


def revalidate_pipeline(*, pipeline_id: str, body: JSON, caller: Caller) -> list[FieldError]:
    """Do as `validate_pipeline` for a document of this pipeline; None is its newest version. Raises NotFound."""
    pipeline = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    if body is None:
        body = msgspec.json.decode(queries.get_version(pipeline, None).document)
    return validate_pipeline(body=body, caller=caller)


def _read(body: JSON, caller: Caller) -> Document:
    return documents.read_document(body, world=_world(body, caller))


def _world(body: JSON, caller: Caller) -> World:
    found = definitions.find_definitions(wanted=steps.ops_named(body), caller=caller)
    return World(
        ops={wanted: definition.input_specs for wanted, definition in found.items()},
        adapters=registry.specs(),
    )


def _require_names(identity: str, document: Document, caller: Caller) -> None:
    if not caller.sees(identity):
        raise Forbidden(f"this key may not make the pipeline {identity}", pipeline_id=identity)
    for topic in (document.plan.event, document.plan.trigger.dead_letter):
        if topic and not caller.sees(topic):
            raise Forbidden(f"this key may not use the topic {topic}", topic=topic)


def _add_version(pipeline: Pipeline, body: JSON, caller: Caller) -> Version:
    return Version.objects.create(
        pipeline=pipeline,
        number=pipeline.latest,
        document=_said(body),
        created_at=pipeline.updated_at,
        created_by=caller.owner,
    )


def _said(body: JSON) -> str:
    """Return what a document's author wrote, as JSON text, without what the server says itself."""
    said = {
        name: value
        for name, value in body.items()
        if name not in ("id", "version", "created_at", "updated_at")
    }
    return msgspec.json.encode(said).decode()


# --- executions ----------------------------------------------------------------------------------


def run_pipeline(
    *,
    pipeline_id: str,
    caller: Caller,
    version: int | None = None,
    inputs: dict[str, JSON] | None = None,
    tag: str | None = None,
    metadata: dict[str, JSON] | None = None,
) -> Execution:
    """Start an execution, or queue it if the pipeline runs as many as it may. Raises Invalid, NotFound, TagTaken."""
    _require_tag(tag)
    pipeline = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    chosen = queries.get_version(pipeline, version)
    with transaction.atomic():
        execution = starting.start(
            Start(
                pipeline_id=pipeline.id,
                version=chosen.number,
                document=chosen.document,
                created_by=caller.owner,
                prefixes=caller.prefixes,
                inputs=inputs or {},
                tag=tag,
                metadata=metadata or {},
            )
        )
        access.audit(caller=caller, action="execution.start", target=str(execution.id))
    return execution


def _require_tag(tag: str | None) -> None:
    if tag is not None and not tags.is_tag(tag):
        raise Invalid.of([("tag", tags.RULE)])


def cancel_execution(*, named: str, caller: Caller, reason: str = "") -> Execution:
    """Cancel an execution: at once what waits; what runs is asked to stop, and the execution ends when it has.

    Cancelling a cancelled one changes nothing. Raises NotFound, IllegalTransition for a completed or failed one.
    """
    execution = queries.get_execution(named=named, caller=caller)
    with transitions.locked(execution.id) as moves:
        status = moves.execution.status
        if status in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED):
            raise IllegalTransition(
                f"the execution {named} is {status}", execution_id=str(execution.id), status=status
            )
        if status != ExecutionStatus.CANCELLED:
            transitions.request_cancel(moves, reason=reason or f"cancelled by {caller.name}")
            moves.execution.wake_at = moves.now
            access.audit(
                caller=caller, action="execution.cancel", target=str(execution.id), reason=reason
            )
    # At once, for what has nothing under way; the sweep does it should this be lost.
    advancing.advance_execution(execution.id)
    return queries.get_execution(named=str(execution.id), caller=caller)


def retry_execution(*, named: str, caller: Caller) -> Execution:
    """Go on from the failed steps of a failed, cancelled or interrupted execution; finished ones keep their outputs.

    Raises NotFound, IllegalTransition.
    """
    execution = queries.get_execution(named=named, caller=caller)
    advancing.retry_execution(execution, reason=f"retried by {caller.name}")
    access.audit(caller=caller, action="execution.retry", target=str(execution.id))
    return queries.get_execution(named=str(execution.id), caller=caller)


def replay_execution(
    *,
    named: str,
    from_stage: str,
    caller: Caller,
    tag: str | None = None,
    version: int | None = None,
) -> Execution:
    """Start a child execution that repeats an ended one from a step on: steps that don't depend on it keep their outputs.

    Raises NotFound, Invalid for a step there is none of, IllegalTransition while the execution runs, TagTaken.
    """
    _require_tag(tag)
    parent = queries.get_execution(named=named, caller=caller)
    if parent.status not in FINAL and parent.status != ExecutionStatus.INTERRUPTED:
        raise IllegalTransition(f"the execution {named} is {parent.status}")
    number, document = parent.pipeline_version, parent.document
    if version is not None:
        pipeline = queries.get_pipeline(pipeline_id=parent.pipeline_id, caller=caller)
        chosen = queries.get_version(pipeline, version)
        number, document = chosen.number, chosen.document
    plan = documents.plan_of(document)
    if from_stage not in plan.needs:
        raise Invalid.of([("from_stage", f"there is no step {from_stage!r} in version {number}")])
    again = graph.dependents(plan.needs, from_stage) | {from_stage}
    with transaction.atomic():
        child = starting.start(
            Start(
                pipeline_id=parent.pipeline_id,
                version=number,
                document=document,
                created_by=caller.owner,
                prefixes=caller.prefixes,
                inputs=parent.inputs,
                tag=tag,
                trigger=parent.trigger,
                metadata=parent.metadata,
                hops=parent.hops,
                parent_id=parent.id,
                correlation_id=parent.root_correlation_id,
                source_key=None,
            )
        )
        done = {
            stage.name: stage
            for stage in queries.stages_by_execution([parent])[parent.id]
            if stage.status in (StageStatus.COMPLETED, StageStatus.SKIPPED)
            and stage.name not in again
        }
        notes = {name: {contents.DONE_BY: contents.done_by(done[name])} for name in done}
        storage.let_read(child.id, {UUID(note[contents.DONE_BY]) for note in notes.values()})
        with transitions.locked(child.id) as moves:
            transitions.take_over(moves, done, notes)
        access.audit(
            caller=caller, action="execution.replay", target=str(child.id), of=str(parent.id)
        )
    return child


def approve_stage(
    *, named: str, stage_name: str, approved: bool, comment: str, caller: Caller
) -> Execution:
    """Answer a step that waits for approval. Raises NotFound, IllegalTransition if it does not wait."""
    execution = queries.get_execution(named=named, caller=caller)
    with transitions.locked(execution.id) as moves:
        stage = moves.load().get(stage_name)
        if stage is None:
            raise NotFound(f"the execution has no stage {stage_name}", stage=stage_name)
        if not queries.awaits_approval(moves.execution, stage):
            raise IllegalTransition(f"the stage {stage_name} does not wait for approval")
        stage.note = {**stage.note, "approved": approved, "by": caller.name, "comment": comment}
        moves.change(stage)
        moves.execution.wake_at = moves.now
        nudge_on_commit(ADVANCE_TASK)
        access.audit(
            caller=caller,
            action="execution.approve",
            target=str(execution.id),
            stage=stage_name,
            approved=approved,
        )
    return queries.get_execution(named=str(execution.id), caller=caller)
