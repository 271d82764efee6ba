"""What steps need from outside of the database: run when their turn is committed, settled in a transaction of its own.

Should this process die, the stage's `wake_at` has it done again. What an errand left behind then belongs to nobody and
is swept by those who keep it.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from django import db
from django.db import transaction

from apps.core.errors import GyozaError
from apps.core.queue import nudge_on_commit
from apps.core.sql import AWAY
from apps.pipelines import transitions
from apps.pipelines.adapters.base import AdapterFailed
from apps.pipelines.states import ExecutionStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from apps.pipelines.adapters.base import Errand

JSON = Any

THREADS = 4
# That wait for one of them, and are run: each holds what it is to write.
MOST = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ordered:
    """An errand, and for which attempt of which step it is."""

    execution_id: UUID
    step: str
    attempt: int
    errand: Errand


class Runner:
    """Threads of a process that run errands, so that a backend that hangs keeps nobody else waiting."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="gyoza-errand")
        self._room = BoundedSemaphore(MOST)

    def send(self, ordered: Ordered) -> None:
        """Have an errand run; what there is no room for is due again."""
        if self._room.acquire(blocking=False):
            self._pool.submit(self._run, ordered)
        else:
            log.warning("%d errands wait already: one of %s has to", MOST, ordered.execution_id)

    def stop(self) -> None:
        """End those that are being run; the others are due again."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, ordered: Ordered) -> None:
        try:
            run(ordered)
        except Exception:
            log.exception("an errand of execution %s is due again", ordered.execution_id)
        finally:
            db.connections.close_all()
            self._room.release()


def run(ordered: Ordered) -> None:
    """Run an errand and end its step, if that still waits for it. Not within a transaction."""
    try:
        brought = ordered.errand.run()
    except AWAY:
        raise
    except (AdapterFailed, GyozaError) as exc:
        _end(ordered, _failing(str(exc)))
        return
    except Exception as exc:
        # A mistake in an adapter costs its step.
        log.exception("the errand of %s in execution %s", ordered.step, ordered.execution_id)
        _end(ordered, _failing(f"{type(exc).__name__}: {exc}"))
        return
    is_settled = False
    try:
        is_settled = _end(ordered, partial(ordered.errand.settle, brought))
    finally:
        if not is_settled:
            ordered.errand.give_up(brought)


def _failing(message: str) -> Callable[[], dict[str, JSON]]:
    """Return what ends a step with an error."""

    def fail() -> dict[str, JSON]:
        raise AdapterFailed(message)

    return fail


def _end(ordered: Ordered, settle: Callable[[], dict[str, JSON]]) -> bool:
    """End the step as `settle` says, and say whether that has completed it."""
    error = ""
    outputs: dict[str, JSON] = {}
    with transitions.locked(ordered.execution_id) as moves:
        stage = moves.load()[ordered.step]
        is_wanted = (
            moves.execution.status == ExecutionStatus.RUNNING
            and stage.status == StageStatus.PROCESSING
            and stage.attempts == ordered.attempt
        )
        if not is_wanted:
            return False
        stage.note = None
        try:
            with transaction.atomic():
                outputs = settle()
        except (AdapterFailed, GyozaError) as exc:
            error = str(exc)
        if error:
            moves.move_stage(stage, StageStatus.FAILED, error=error)
        else:
            moves.move_stage(stage, StageStatus.COMPLETED, outputs=outputs)
        moves.execution.wake_at = moves.now
        moves.touch()
        nudge_on_commit(transitions.ADVANCE_TASK)
    return not error
