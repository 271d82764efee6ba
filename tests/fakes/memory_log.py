"""A log in memory, third of those that are relayed: reads take their time, so that all that can happen meanwhile does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from apps.core.sse import hub
from apps.core.sse.log import Page

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random


class Told(NamedTuple):
    """An event of the log."""

    channel: str
    id: int
    frame: bytes


class MemoryLog:
    """Events of any number of channels, and which of these have ended."""

    news = "memory"
    ends = "memory-ends:"

    def __init__(self, random: Random | None = None) -> None:
        self.events: list[Told] = []
        self.closed: set[str] = set()
        self.reads = 0
        self._random = random

    async def read(self, after: int, limit: int, only: Collection[str] | None = None) -> Page:
        self.reads += 1
        await self.pause()
        found = self.events[after : after + limit]
        has_more = len(self.events) > after + limit
        await self.pause()
        told = [event for event in found if only is None or event.channel in only]
        return Page(told, after + len(found), has_more)

    async def ended(self, channels: Collection[str]) -> Collection[str]:
        await self.pause()
        found = self.closed.intersection(channels)
        await self.pause()
        return found

    async def pause(self) -> None:
        """Let others go first, for a while."""
        for _ in range(self._random.randrange(5) if self._random else 1):
            await asyncio.sleep(0)

    def write(self, *channels: str, is_heard: bool = True) -> None:
        """Write an event to each of the channels, in this order."""
        for channel in channels:
            number = len(self.events) + 1
            self.events.append(Told(channel, number, b"%d;" % number))
        if is_heard:
            hub.current().wake([self.news])

    def close(self, channel: str) -> None:
        """End a channel: nothing is written to it any more."""
        self.closed.add(channel)
        hub.current().wake([self.ends + channel])

    def ids_of(self, *channels: str, after: int = 0) -> list[int]:
        """Return what a stream of these channels has to tell."""
        return [event.id for event in self.events[after:] if event.channel in channels]
