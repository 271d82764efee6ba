from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

from apps.core import memory
from apps.core.queue import answer_nudge
from apps.runs import sweeps, workerprocess
from apps.runs.services import CLAIM_TASK


@shared_task(name=CLAIM_TASK)
def claim_runs() -> None:
    """Wake this process's agent: there may be work, or something to stop. Most often it has heard so already."""
    if not workerprocess.hears():
        answer_nudge(CLAIM_TASK)
        workerprocess.nudge()


@shared_task(name="runs.sweep_runs")
def sweep_runs() -> None:
    sweeps.sweep_runs()


@worker_ready.connect
def start_agent(sender: Any, **_: Any) -> None:
    # A worker that does not listen for work (celery -Q gyoza) does sweeps and maintenance only.
    if any(queue.alias == "gyoza.wake" for queue in sender.app.amqp.queues.consume_from.values()):
        workerprocess.start()
    memory.settle()


@worker_shutting_down.connect
def drain_agent(**_: Any) -> None:
    workerprocess.drain()


@worker_shutdown.connect
def stop_agent(**_: Any) -> None:
    workerprocess.stop()
