"""Bytes that requests keep in memory, counted over all requests of this process so that they stay within a limit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings

from apps.core.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Iterator


class Budget:
    """How many bytes of one kind are held; `limit` is the setting that bounds them, as clients are told."""

    def __init__(self, limit: str, *, what: str) -> None:
        self.total = 0
        self._limit = limit
        self._what = what

    def check(self, size: int, *, own: int) -> None:
        """Raise Throttled if so much more would be too many, unless nobody else holds any."""
        most = getattr(settings, f"GYOZA_{self._limit.upper()}")
        if self.total > own and self.total + size > most:
            raise Throttled(f"too many bytes of {self._what} at once", limit=self._limit, max=most)

    def is_used_up(self) -> bool:
        """Say whether so many are held as may be."""
        most: int = getattr(settings, f"GYOZA_{self._limit.upper()}")
        return self.total >= most


# What has been read of request bodies, until they are answered.
BODIES = Budget("max_held_bytes", what="request bodies")
# What has been answered and not yet taken by its client.
ANSWERS = Budget("max_unsent_bytes", what="answers")
# What streams and sockets have been given to send and not yet been rid of. They are not refused: they get less at a time.
FRAMES = Budget("max_unsent_bytes", what="streams")


class Held:
    """What one request holds of a budget, until it lets go."""

    __slots__ = ("_budget", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def check(self, size: int) -> None:
        """Raise Throttled if so much more would be too many."""
        self._budget.check(size, own=self.size)

    def take(self, size: int) -> None:
        """Hold more; raises Throttled if that would be too many."""
        self.check(size)
        self.size += size
        self._budget.total += size

    def note(self, size: int) -> None:
        """Hold more, whatever the others hold."""
        self.size += size
        self._budget.total += size

    def keep(self, size: int) -> None:
        """Hold no more than so much of what it holds."""
        self._budget.total -= self.size - size
        self.size = size

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._budget.total -= self.size
        self.size = 0


@contextmanager
def sending(size: int) -> Iterator[None]:
    """Count so much of a stream or socket as unsent, for as long as it is."""
    held = Held(FRAMES)
    held.note(size)
    try:
        yield
    finally:
        held.let_go()
