"""How pipelines, executions and stages are written in JSON (pipelines-storage.md §1, §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from apps.core import clock
from apps.pipelines.states import StageStatus
from apps.pipelines.triggering import conditions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from apps.pipelines.models import DeadLetter, Execution, Pipeline, Schedule, Stage, Version
    from apps.pipelines.triggering.statuses import TriggerStatus

JSON = Any


def pipeline(row: Pipeline, version: Version) -> dict[str, JSON]:
    """Write one version of a pipeline: what its author wrote, in his order, and what the server says of it."""
    document = msgspec.json.decode(version.document)
    return {
        "id": row.id,
        "name": document.pop("name"),
        "version": str(version.number),
        **document,
        "created_at": clock.rfc3339(row.created_at),
        "updated_at": clock.rfc3339(version.created_at),
    }


def document(row: Pipeline, version: Version) -> dict[str, JSON]:
    """Write one version of a pipeline as it is applied: without what the server says of it."""
    said = pipeline(row, version)
    for of_the_server in ("version", "created_at", "updated_at"):
        del said[of_the_server]
    return said


def version(row: Version) -> dict[str, JSON]:
    """Write one line of a pipeline's history."""
    return {
        "version": str(row.number),
        "created_at": clock.rfc3339(row.created_at),
        "created_by": row.created_by or None,
    }


def execution(
    row: Execution, stages: Sequence[Stage], objects: Mapping[str, int]
) -> dict[str, JSON]:
    """Write an execution with its stages; `objects` says how many each step's stage holds, if it does."""
    return {
        "id": str(row.id),
        "pipeline_id": row.pipeline_id,
        "pipeline_version": str(row.pipeline_version),
        "status": row.status,
        "phase": phase(row),
        "tag": row.tag,
        "attempt": row.attempt,
        "inputs": row.inputs,
        "outputs": row.outputs,
        "trigger": None if row.trigger is None else msgspec.Raw(row.trigger.encode()),
        "config_snapshot": msgspec.Raw(row.document.encode()),
        "created_at": clock.rfc3339(row.created_at),
        "started_at": moment(row.started_at),
        "completed_at": moment(row.completed_at),
        "parent_execution_id": row.parent_id and str(row.parent_id),
        "root_correlation_id": row.root_correlation_id,
        "metadata": row.metadata,
        "error_info": row.error_info,
        "stages": [stage(one, objects.get(one.name, 0)) for one in stages],
    }


def phase(row: Execution) -> str:
    """Say in more detail than `status` where an execution stands."""
    if row.status != "running":
        return row.status
    if row.is_queued:
        return "queued"
    if row.retry_at is not None:
        return "retrying"
    return "cancelling" if row.cancel_requested_at is not None else "running"


def stage(row: Stage, objects: int) -> dict[str, JSON]:
    """Write a stage."""
    return {
        "name": row.name,
        "status": row.status,
        "started_at": moment(row.started_at),
        "completed_at": moment(row.completed_at),
        "attempts": row.attempts,
        "objects": objects,
        "run_ids": [str(run_id) for run_id in row.run_ids],
        "error": row.error or None,
        "waiting_for": waiting_for(row),
    }


def dag(row: Execution, needs: dict[str, tuple[str, ...]], stages: Sequence[Stage]) -> JSON:
    """Write the graph of an execution with the states of its nodes."""
    statuses = {one.name: one.status for one in stages}
    return {
        "execution_id": str(row.id),
        "status": row.status,
        "nodes": [{"name": name, "status": statuses.get(name)} for name in needs],
        "edges": [{"from": need, "to": name} for name, needed in needs.items() for need in needed],
    }


def trigger(found: TriggerStatus) -> dict[str, JSON]:
    """Write what an event trigger does."""
    row = found.trigger
    return {
        "pipeline_id": row.pipeline_id,
        "state": found.state,
        "conditions": conditions.listed(row),
        "topic": row.topic or None,
        "pipeline_version": str(row.version) if row.version else None,
        "cursor": {
            "position": row.position,
            "pending": found.pending,
            "oldest_pending_age_s": found.oldest_pending_age_s,
        },
        "instances": {
            "current": found.running,
            "desired": found.desired,
            "min": 0,
            "max": found.most,
        },
        **{name: getattr(row, name) for name in TRIGGER_COUNTERS},
        "last_event_at": moment(row.last_event_at),
        "last_execution_id": row.last_execution_id and str(row.last_execution_id),
        "last_error": row.last_error or None,
    }


def schedule(row: Schedule) -> dict[str, JSON]:
    """Write what a schedule does."""
    return {
        "pipeline_id": row.pipeline_id,
        "schedule": row.cron,
        "timezone": row.timezone,
        "paused": row.is_paused,
        "next_at": moment(row.next_at),
        "last_at": moment(row.last_at),
        "last_execution_id": row.last_execution_id and str(row.last_execution_id),
        "started": row.started,
    }


TRIGGER_COUNTERS = (
    "received",
    "filtered",
    "started",
    "succeeded",
    "failed",
    "retried",
    "dead_lettered",
)


def dead_letter(row: DeadLetter) -> dict[str, JSON]:
    """Write a message that came to nothing."""
    return {
        "seq": row.seq,
        "topic": row.topic,
        "reason": row.reason,
        "attempts": row.attempts,
        "execution_id": row.execution_id and str(row.execution_id),
        "message": msgspec.Raw(row.message.encode()),
        "created_at": clock.rfc3339(row.created_at),
    }


def moment(value: datetime | None) -> str | None:
    """Write a moment, if there is one."""
    return None if value is None else clock.rfc3339(value)


def waiting_for(row: Stage) -> str | None:
    """Say what a stage without a run waits for."""
    if row.status != StageStatus.PROCESSING or not isinstance(row.note, dict):
        return None
    return row.note.get("message") or row.note.get("execution_id") or row.note.get("until")
