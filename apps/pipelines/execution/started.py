"""Executions one of whose runs has started, until their stages say so. Memory only: a sweep finds what is lost with it."""

from __future__ import annotations

import threading
from itertools import islice, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

# For so long at least the start of a run is told to nobody: most are over by then, and their end tells of both in one turn.
# Those of the same interval of this length are due together: at most ten turns a second are taken for starts alone.
PATIENCE_SECONDS = 0.1


class Started:
    """Which executions are to be looked at, and when; for any thread. Moments are of `time.monotonic`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # In the order in which they are due.
        self._due: dict[UUID, float] = {}

    def add(self, execution_ids: Iterable[UUID], *, now: float) -> bool:
        """Note that a run of each has started; say whether there was none to be looked at before."""
        with self._lock:
            was_empty = not self._due
            due = (now // PATIENCE_SECONDS + 2) * PATIENCE_SECONDS
            for one in execution_ids:
                self._due.setdefault(one, due)
            return was_empty and bool(self._due)

    def forget(self, execution_ids: Iterable[UUID]) -> None:
        """Note that somebody is about to look at these anyway."""
        with self._lock:
            for one in execution_ids:
                self._due.pop(one, None)

    def take(self, most: int, *, now: float) -> list[UUID]:
        """Return those that are due, and forget them."""
        with self._lock:
            found = list(islice(takewhile(lambda one: self._due[one] <= now, self._due), most))
            for one in found:
                del self._due[one]
            return found

    def seconds_left(self, *, now: float) -> float | None:
        """Return after how long the next is due; None if there is none."""
        with self._lock:
            due = next(iter(self._due.values()), None)
        return None if due is None else max(due - now, 0)
