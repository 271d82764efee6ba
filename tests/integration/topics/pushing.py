"""Streams whose frames are written by whoever has them, with clients that may be behind."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from apps.core.sse import hub
from apps.core.sse.bell import Bell
from apps.core.sse.outlet import Outlet
from apps.core.sse.stream import Step, follow_source
from apps.topics import services
from apps.topics.keeping import touches
from apps.topics.models import Topic
from apps.topics.services import NewEvent, append_events
from apps.topics.watch import pages
from apps.topics.watch.following import Follower
from apps.topics.watch.frames import Frames
from apps.topics.watch.positions import Position
from apps.topics.watch.readings import Selection
from tests import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

WANTED = Selection(limit=100, budget=100_000)


def write(topic: str, *data: str) -> None:
    append_events([NewEvent(topic, one) for one in data])


def delete(topic: str) -> None:
    services.delete_topic(topic=topic, caller="test")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def scene() -> Any:
        try:
            return await work
        finally:
            await pages.close()
            await touches.close()

    return aio.run(scene())


class Stream:
    """A stream of one topic, with a client that may be behind."""

    def __init__(self, positions: dict[str, Position], wanted: Selection = WANTED) -> None:
        self._positions, self._wanted = positions, wanted
        self.outlet = Outlet()
        self.bell = Bell()
        self.wait = self.bell.wait
        self.is_behind = False
        self.pushed: list[bytes] = []
        # Everything, in the order in which the client gets it.
        self.sent = b""

    async def open(self) -> Callable[[], Awaitable[Step]]:
        self._follower = Follower(Frames(self._positions), self.bell, outlet=self.outlet)
        self._follower.add(self._positions, self._wanted)
        self.outlet.open(self._push)
        return self._follower.read

    def close(self) -> None:
        self._follower.close()
        self.bell.close()

    def farewell(self) -> bytes:
        return b"bye"

    def _push(self, part: bytes) -> bool:
        assert self.bell.is_waited_for
        if self.is_behind:
            return False
        self.pushed.append(part)
        self.sent += part
        return True

    async def run(self) -> None:
        async for part in follow_source(self, outlet=self.outlet):
            self.sent += part

    async def until(self, words: bytes) -> None:
        """Return when these bytes have been sent and the task sleeps again."""
        while not (words in self.sent and self.bell.is_waited_for):
            await asyncio.sleep(0)


@asynccontextmanager
async def opened(*positions: dict[str, Position], **options: Any) -> AsyncIterator[list[Stream]]:
    """Open streams, each with positions, that are caught up."""
    streams = [Stream(given, **options) for given in positions]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    try:
        for stream in streams:
            await stream.until(b"caught-up")
        while not hub.current().hears:
            await asyncio.sleep(0)
        yield streams
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def position(topic: str = "t", seq: int = 1) -> dict[str, Position]:
    return {topic: Position(Topic.objects.get(name=topic).pk, seq)}


def records(stream: Stream) -> list[int]:
    """Return the seqs of the records that the client got, as it got them."""
    return [int(found) for found in re.findall(rb'"\$seq":(\d+)', stream.sent)]
