"""A read of a watched topic that is shared: what was wanted, what was found, and what its sharers have made of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from apps.topics.predicates import TagPredicate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apps.topics.queries import JsonPage

# For whoever comes late by so much, a page with records is as good as new: it could as well be on its way to him.
_LATE_SECONDS = 1.0


class Watcher(Protocol):
    """Who is told that there is something to see of a topic."""

    @property
    def is_pushed(self) -> bool: ...
    def wake(self, name: str) -> None: ...
    def hand(self, name: str, reading: Reading) -> None: ...


class Selection(msgspec.Struct, frozen=True):
    """What a subscription wants of a topic; those who want the same share what is read."""

    limit: int
    budget: int
    nodes: tuple[str, ...] = ()
    tag: TagPredicate | None = None
    with_tags: bool = False
    with_meta: bool = True
    with_data: bool = True


# Where a watcher waits: behind a seq, for what it wants.
Spot = tuple[int, Selection]


class Reading:
    """One read, under way or done, and what its sharers have made of it."""

    __slots__ = (
        "_done",
        "_parked",
        "after",
        "began",
        "data",
        "ended_at",
        "error",
        "has_failed",
        "made",
        "page",
        "selection",
    )

    def __init__(self, began: int, after: int, selection: Selection) -> None:
        self.began = began
        self.after = after
        self.selection = selection
        self.ended_at: float | None = None
        # None when there is no such topic.
        self.page: JsonPage | None = None
        # Postgres was away: ask again later.
        self.has_failed = False
        # What went wrong for a reason that nobody foresaw.
        self.error: Exception | None = None
        # The record frame's data; and by kind the frame last made, with its id: at a topic's end all send the same.
        self.data = b""
        self.made: dict[str, tuple[str, bytes]] = {}
        self._parked: list[tuple[str, Iterable[Watcher]]] = []
        self._done = asyncio.Event()

    @property
    def is_done(self) -> bool:
        return self.ended_at is not None

    async def wait(self) -> None:
        """Return when it is done."""
        await self._done.wait()

    def wake_when_done(self, name: str, watchers: Iterable[Watcher]) -> None:
        """Have watchers see what it finds of their topic when it has, and not before."""
        if self.is_done:
            # Not handed to them: what they do with it may have led here.
            for watcher in watchers:
                watcher.wake(name)
        else:
            self._parked.append((name, watchers))

    def end(self) -> None:
        """Let everybody have it."""
        self.ended_at = time.monotonic()
        self._done.set()
        for name, watchers in self._parked:
            for watcher in watchers:
                watcher.hand(name, self)
        self._parked.clear()


def is_late(reading: Reading) -> bool:
    """Say whether it is too long ago that a read was done."""
    return reading.ended_at is not None and time.monotonic() - reading.ended_at > _LATE_SECONDS
