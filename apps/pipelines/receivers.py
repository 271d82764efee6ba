"""What happens here when runs end: their executions are advanced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core.queue import enqueue_on_commit
from apps.pipelines.starting import ADVANCE_TASK
from apps.runs.signals import run_finished

if TYPE_CHECKING:
    from uuid import UUID


def connect() -> None:
    """Listen to runs that end."""
    run_finished.connect(advance_executions, dispatch_uid="pipelines.advance_executions")


def advance_executions(*, execution_ids: list[UUID], **_: Any) -> None:
    """Enqueue the advance of each execution one of whose runs has ended."""
    for execution_id in execution_ids:
        enqueue_on_commit(ADVANCE_TASK, execution_id=str(execution_id))
