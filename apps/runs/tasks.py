from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import (
    celeryd_after_setup,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from apps.core import memory
from apps.core.queue import answer_nudge
from apps.runs import sweeps
from apps.runs.scheduling import CLAIM_TASK
from apps.runs.worker import process


@shared_task(name=CLAIM_TASK)
def claim_runs() -> None:
    """Wake this process's agent: there may be work, or something to stop. Most often it has heard so already."""
    if not process.hears():
        answer_nudge(CLAIM_TASK)
        process.nudge()


@shared_task(name="runs.sweep_runs")
def sweep_runs() -> None:
    sweeps.sweep_runs()


@celeryd_after_setup.connect
def start_agent(instance: Any, **_: Any) -> None:
    # Not when the worker is ready: it is so only once it has reached Redis, and work is found in Postgres.
    # A worker that does not listen for work (celery -Q gyoza) does sweeps and maintenance only.
    queues = instance.app.amqp.queues.consume_from.values()
    if any(queue.alias == "gyoza.wake" for queue in queues):
        process.start()


@worker_ready.connect
def settle_memory(**_: Any) -> None:
    memory.settle()


@worker_shutting_down.connect
def drain_agent(**_: Any) -> None:
    process.drain()


@worker_shutdown.connect
def stop_agent(**_: Any) -> None:
    process.stop()
