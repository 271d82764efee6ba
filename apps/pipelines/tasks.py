from __future__ import annotations

from uuid import UUID

from celery import shared_task

from apps.pipelines import advancing, settling, sweeps
from apps.pipelines.starting import ADVANCE_TASK
from apps.pipelines.transitions import SETTLE_TASK


@shared_task(name=ADVANCE_TASK)
def advance_execution(execution_id: str) -> None:
    advancing.advance_execution(UUID(execution_id))


@shared_task(name=SETTLE_TASK)
def settle_execution(execution_id: str) -> None:
    settling.settle_execution(UUID(execution_id))


@shared_task(name="pipelines.sweep_executions")
def sweep_executions() -> None:
    sweeps.sweep_executions()
