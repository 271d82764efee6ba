"""The part of a worker process that advances executions and dispatches triggers: one thread, woken by words.

Nothing is remembered here that could not be read again: what is due is in rows, and a sweep wakes the thread anyway.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from django import db

from apps.core.nudges import Ear
from apps.pipelines.execution import advancing, errands, settling
from apps.pipelines.execution.started import Started
from apps.pipelines.execution.starting import DISPATCH_TASK
from apps.pipelines.transitions import ADVANCE_TASK
from apps.pipelines.triggering import dispatching
from apps.pipelines.triggering.dispatching import Dispatched

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from uuid import UUID

    from apps.pipelines.execution.errands import Ordered

log = logging.getLogger(__name__)

# Executions that take their step together, at most: what one of them waits for, all wait for.
MOST = 200
# How long the thread pauses after a turn that failed: Postgres is away.
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """Whether there was anything to do, and whether triggers have more to start at once."""

    was_busy: bool
    dispatches_again: bool


def run_once(
    told: Collection[UUID] = (),
    *,
    dispatches: bool = True,
    looks: bool = True,
    send: Callable[[Ordered], object] = errands.run,
) -> Round:
    """Dispatch what has grown, advance those told of, settle what has ended.

    If it `looks`, advance what is due, too. `send` sees to errands.
    """
    first = dispatching.dispatch_due() if dispatches else Dispatched()
    advanced = advancing.Advanced()
    if told or looks:
        advanced = advancing.advance_all(told, due=MOST if looks else 0, send=send)
    then = Dispatched()
    if advanced.ended - {None} and not first.more:
        # Counts what has ended in the same transaction in which it starts what waits.
        then = dispatching.dispatch_due()
    # A trigger that has more to start has its next turn at once, and counts in it.
    settled = 0
    if looks or advanced.ended - then.turns - first.more:
        settled = settling.settle_ended(but_not=first.more)
    return Round(
        was_busy=bool(first.count or then.count or advanced.count or settled),
        dispatches_again=bool(first.more or then.more),
    )


class Engine:
    """Runs `run_once` whenever there may be something to do. Start it once per process."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._ended: deque[UUID] = deque()
        self._started = Started()
        # What there is to look for: topics that have grown, executions that are due.
        self._dispatches = True
        self._looks = True
        self._stopped = False
        self._errands = errands.Runner()
        self._thread = threading.Thread(target=self._run, name="gyoza-engine", daemon=True)
        self._ear = Ear({ADVANCE_TASK: self.look, DISPATCH_TASK: self.wake})

    @property
    def hears(self) -> bool:
        """Whether a nudge reaches this engine without Celery."""
        return self._ear.hears

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._ear.start()

    def stop(self) -> None:
        """Finish what is being done, and stop."""
        self._stopped = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._ear.close()
        self._errands.stop()

    def wake(self) -> None:
        """Look for all there is to do, soon."""
        self._dispatches = True
        self.look()

    def look(self) -> None:
        """Look for executions that are due, soon."""
        self._looks = True
        self._wake.set()

    def advance_soon(self, execution_ids: Iterable[UUID]) -> None:
        """Advance executions one of whose runs has ended."""
        self._ended.extend(execution_ids)
        self._wake.set()

    def show_soon(self, execution_ids: Iterable[UUID]) -> None:
        """Let stages say that a run has started, unless it has ended by then."""
        if self._started.add(execution_ids, now=time.monotonic()):
            # To wait no longer than until that is due.
            self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(self._started.seconds_left(now=time.monotonic()))
            self._wake.clear()
            try:
                self.work()
            except db.Error as exc:
                log.warning("nothing is advanced for %.0f s: %s", PAUSE_SECONDS, exc)
                self._pause()
            except Exception:
                # The thread must outlive a mistake: everything else waits for it.
                log.exception("the engine stumbled")
                self._pause()
        db.connections.close_all()

    def work(self) -> None:
        """Do all there is to do now."""
        busy = True
        while busy and not self._stopped:
            # One look, in which no other thread can add to it.
            heard = list(islice(self._ended, MOST))
            told = list(dict.fromkeys(heard))
            dispatches, self._dispatches = self._dispatches, False
            looks, self._looks = self._looks, False
            self._started.forget(told)
            if not (told or dispatches or looks):
                # Nothing presses: a start is told in a lull, or together with the end.
                told = self._started.take(MOST, now=time.monotonic())
                if not told:
                    return
            done = run_once(told, dispatches=dispatches, looks=looks, send=self._errands.send)
            for _ in heard:
                self._ended.popleft()
            # Only these may have left something: whatever else makes work for another turn says so.
            self._looks |= looks and done.was_busy
            self._dispatches |= done.dispatches_again
            busy = bool(self._ended) or self._dispatches or self._looks

    def _pause(self) -> None:
        db.connections.close_all()
        threading.Event().wait(PAUSE_SECONDS)
        self.wake()


_engine: Engine | None = None


def start() -> None:
    """Start this process's engine."""
    global _engine
    _engine = Engine()
    _engine.start()


def stop() -> None:
    """Stop this process's engine."""
    global _engine
    if _engine is not None:
        _engine.stop()
        _engine = None


def hears() -> bool:
    """Say whether this process has an engine that nudges reach without Celery."""
    return _engine is not None and _engine.hears


def wake() -> bool:
    """Wake this process's engine; say whether it has one."""
    if _engine is None:
        return False
    _engine.wake()
    return True


def tell(*, ended_in: Collection[UUID], started_in: Collection[UUID]) -> bool:
    """Tell this process's engine whose runs have ended, and whose have started; say whether it has one."""
    if _engine is None:
        return False
    if started_in:
        _engine.show_soon(started_in)
    if ended_in:
        _engine.advance_soon(ended_in)
    return True
