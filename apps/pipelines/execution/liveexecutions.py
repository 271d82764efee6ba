"""Executions under their locks, or about to be stored, as moves read and write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from apps.core import sql
from apps.pipelines.models import Execution
from apps.pipelines.states import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

JSON = Any

# Messages up to this are held for all executions of a turn.
LONG_TRIGGER_BYTES = 64 * 1024
_decode = msgspec.json.decode


@dataclass(slots=True)
class LiveExecution:
    """An execution as its row has it. A turn holds hundreds: the model would cost ten times as much."""

    id: UUID
    pipeline_id: str
    pipeline_version: int
    document: str
    created_by: str
    status: ExecutionStatus = ExecutionStatus.RUNNING
    is_queued: bool = False
    tag: str | None = None
    trigger: str | None = None
    inputs: dict[str, JSON] = field(default_factory=dict)
    metadata: dict[str, JSON] = field(default_factory=dict)
    # Written once, when it completes; never read.
    outputs: dict[str, JSON] | None = None
    error_info: dict[str, JSON] | None = None
    attempt: int = 1
    hops: int = 0
    parent_id: UUID | None = None
    parent_stage: str | None = None
    root_correlation_id: str = ""
    prefixes: list[str] = field(default_factory=list)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    retry_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str = ""
    wake_at: datetime | None = None
    deadline_at: datetime | None = None
    source_id: str | None = None
    # Started by a message too long to be held beside many others: `trigger` is not there, see read_trigger.
    has_long_trigger: bool = False
    # What is known when it is made, and not read again.
    created_at: datetime | None = None
    source_topic_id: int | None = None
    source_seq: int | None = None
    source_key: str | None = None
    scheduled_at: datetime | None = None


def lock_executions(execution_ids: Collection[UUID]) -> list[LiveExecution]:
    """Lock these executions, oldest first, waiting for whoever is at them; those that are gone are missing."""
    rows = sql.run_bound(
        "pipelines/lock_executions", ids=list(execution_ids), long_bytes=LONG_TRIGGER_BYTES
    ).rows
    return [_live(row) for row in rows]


def lock_due(now: datetime, limit: int) -> list[LiveExecution]:
    """Lock executions that are to be advanced now, longest due first; those somebody else is at are passed over."""
    rows = sql.run_bound(
        "pipelines/lock_due_executions", now=now, most=limit, long_bytes=LONG_TRIGGER_BYTES
    ).rows
    return [_live(row) for row in rows]


def lock_unpostponed(execution_ids: Collection[UUID]) -> list[UUID]:
    """Lock those of the executions that run and do not wait for their next try, oldest first; return their ids."""
    rows = Execution.objects.select_for_update(no_key=True).filter(
        pk__in=execution_ids, status=ExecutionStatus.RUNNING, retry_at__isnull=True
    )
    return list(rows.order_by("pk").values_list("pk", flat=True))


def read_trigger(execution: LiveExecution) -> str | None:
    """Return the message that started an execution, however long it is; JSON text."""
    if not execution.has_long_trigger:
        return execution.trigger
    return Execution.objects.values_list("trigger", flat=True).get(pk=execution.id)


def _live(row: dict[str, Any]) -> LiveExecution:
    # Django's connection leaves jsonb as text.
    row["inputs"] = _decode(row["inputs"])
    row["metadata"] = _decode(row["metadata"])
    if row["error_info"] is not None:
        row["error_info"] = _decode(row["error_info"])
    row["status"] = ExecutionStatus(row["status"])
    return LiveExecution(**row)
