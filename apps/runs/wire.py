"""How runs, timeline entries, attempts and workers are written in JSON (runs.md §1): one place for API and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core import clock

if TYPE_CHECKING:
    from datetime import datetime

    from apps.runs.listing import ListedRun
    from apps.runs.models import Attempt, Run, RunEvent
    from apps.runs.queries import AttemptView, WorkerLoad

JSON = Any


def run(row: Run | ListedRun) -> dict[str, JSON]:
    """Write an OpRun, without its events."""
    return {
        "id": str(row.id),
        "state": row.state,
        "priority": row.priority,
        "progress": row.progress,
        "current_attempt": row.current_attempt,
        "image": row.image,
        "command": row.command,
        "python": row.python,
        "inputs": row.inputs,
        "outputs": row.outputs,
        "op_definition": row.op_definition,
        "op_version": row.op_version,
        "constraints": {
            "cpu": row.cpu,
            "ram_mb": row.ram_mb,
            "vram_mb": row.vram_mb,
            "gpu_id": row.gpu_id,
            "tags": row.tags,
        },
        "retry_policy": row.retry_policy,
        "event_delivery": {"topic": row.topic, "attributes": row.attributes},
        "timeout_s": row.timeout_s,
        "execution_summary": _summary(row, row.worker_id),
        "createdAt": clock.rfc3339(row.created_at),
        "updatedAt": clock.rfc3339(row.updated_at),
        "started_at": _moment(row.started_at),
        "finished_at": _moment(row.finished_at),
        "scheduled_at": _moment(row.scheduled_at),
        "cancel_requested_at": _moment(row.cancel_requested_at),
        "metadata": row.metadata,
        "execution_id": row.execution_id and str(row.execution_id),
        "step": row.step,
    }


def event(row: RunEvent) -> dict[str, JSON]:
    """Write a timeline entry."""
    return {
        "id": row.number,
        "t": clock.rfc3339(row.at),
        "type": row.type,
        "msg": row.msg,
        "state": row.state,
        "payload": row.payload,
    }


def attempt(view: AttemptView) -> dict[str, JSON]:
    """Write an attempt with its timeline."""
    row = view.attempt
    return {
        "attempt": view.number,
        "state": row.state,
        "progress": row.progress,
        "outputs": row.outputs,
        "execution_summary": _summary(row, view.worker_id),
        "queued_at": clock.rfc3339(row.queued_at),
        "assigned_at": _moment(row.assigned_at),
        "started_at": _moment(row.started_at),
        "finished_at": _moment(row.finished_at),
        "events": [event(entry) for entry in view.events],
    }


def worker(load: WorkerLoad) -> dict[str, JSON]:
    """Write a worker with what it offers and holds."""
    row = load.worker
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "executors": row.executors,
        "slots": row.slots,
        "resources": {
            "total": {"cpu": row.cpu, "ram_mb": row.ram_mb, "gpus": row.gpus},
            "free": {
                "cpu": row.cpu - load.cpu,
                "ram_mb": row.ram_mb - load.ram_mb,
                "gpus": [
                    {**gpu, "vram_mb": gpu["vram_mb"] - load.vram_mb.get(gpu["id"], 0)}
                    for gpu in row.gpus
                ],
            },
        },
        "tags": row.tags,
        "running": load.running,
        "hostname": row.hostname,
        "registered_at": clock.rfc3339(row.registered_at),
        "last_heartbeat_at": clock.rfc3339(row.heartbeat_at),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else clock.rfc3339(moment)


def _summary(attempt: Run | ListedRun | Attempt, worker_id: str | None) -> dict[str, JSON]:
    duration = None
    if attempt.started_at is not None and attempt.finished_at is not None:
        duration = round((attempt.finished_at - attempt.started_at).total_seconds() * 1000)
    return {
        "duration_ms": duration,
        "worker_id": worker_id,
        "error_message": attempt.error_message or None,
        "gpu_id": attempt.gpu,
        "exit_code": attempt.exit_code,
    }
