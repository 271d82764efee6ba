"""Reads that many want at once: each is made once, and what can't change any more is kept for those who come late."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable
    from typing import Any

T = TypeVar("T")

# Pages of a log have some 300 KB.
_MOST_KEPT = 32


class Shared:
    """The reads of one event loop that are under way, and the last that are for good."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    async def get(
        self,
        key: Hashable,
        read: Callable[[], Coroutine[Any, Any, T]],
        *,
        is_final: Callable[[T], bool],
    ) -> T:
        """Read, or take what was or is being read; who leaves meanwhile takes it from nobody."""
        if key in self._kept:
            self._kept.move_to_end(key)
            kept: T = self._kept[key]
            return kept
        reading: asyncio.Task[T] | None = self._running.get(key)
        if reading is None:
            reading = self._running[key] = asyncio.create_task(read())
            reading.add_done_callback(lambda done: self._end(key, done))
        found = await asyncio.shield(reading)
        if is_final(found):
            self._kept[key] = found
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._running:
            await asyncio.wait(set(self._running.values()))

    def _end(self, key: Hashable, done: asyncio.Task[Any]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # told to those who wait, if there still are any
