from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from apps.core.queue import answer_nudge
from apps.pipelines import sweeps
from apps.pipelines.execution import engine
from apps.pipelines.execution.starting import DISPATCH_TASK
from apps.pipelines.schedules import services as schedules
from apps.pipelines.schedules.knocks import START_TASK
from apps.pipelines.transitions import ADVANCE_TASK


@shared_task(name=ADVANCE_TASK)
def advance_executions() -> None:
    """Wake this process's engine, or do its work. Most often it has heard so already."""
    if not engine.hears():
        answer_nudge(ADVANCE_TASK)
        if not engine.wake():
            engine.run_once(dispatches=False)


@shared_task(name=DISPATCH_TASK)
def dispatch_triggers() -> None:
    """Wake this process's engine, or do its work. Most often it has heard so already."""
    if not engine.hears():
        answer_nudge(DISPATCH_TASK)
        if not engine.wake():
            engine.run_once()


@shared_task(name="pipelines.sweep_executions")
def sweep_executions() -> None:
    sweeps.sweep()


@shared_task(name=START_TASK)
def start_schedule(pipeline_id: str) -> None:
    schedules.start_if_due(pipeline_id=pipeline_id)


@worker_ready.connect
def start_engine(sender: Any, **_: Any) -> None:
    # As the agent of runs: a worker that does not listen for work does sweeps and maintenance only.
    if any(queue.alias == "gyoza.wake" for queue in sender.app.amqp.queues.consume_from.values()):
        engine.start()


@worker_shutting_down.connect
def stop_engine(**_: Any) -> None:
    engine.stop()
