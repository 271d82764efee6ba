"""Topics that appear under a prefix while a stream is open: they join it with their first record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apps.core.sse import hub
from apps.core.sse.stream import HEARTBEAT_SECONDS
from apps.core.sse.subscription import Subscription
from apps.topics import descriptions, names
from apps.topics.watch.positions import JOINED, Position

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from apps.core.sse.bell import Bell
    from apps.topics.descriptions import TopicRow

# topics v0 §4.1: topics per watch.
MAX_TOPICS = 256

Range = tuple[str, str]


class Newcomers(Subscription):
    """Hears of topics within ranges of names that a stream doesn't follow yet."""

    __slots__ = ("_followed", "_looked_at", "_ranges", "_stream_bell", "is_too_much")

    def __init__(self, ranges: Sequence[Range], followed: Collection[str], bell: Bell) -> None:
        super().__init__(hub.current(), [names.channel(low) + "*" for low, _ in ranges])
        self._ranges = ranges
        # The names that the stream follows, alive.
        self._followed = followed
        self._stream_bell = bell
        self._looked_at = 0.0
        self.is_too_much = False

    def wake(self, channel: str) -> None:
        """Look again soon, if this is somebody new."""
        if channel.removeprefix(names.channel("")) not in self._followed:
            self._looked_at = 0.0
            self._stream_bell.ring()

    async def join(self) -> dict[str, Position]:
        """Return the topics that have appeared since the last time, to be followed from their beginning.

        Looks when there was news, and every heartbeat. No more than a watch may have; `is_too_much` says if there are.
        """
        if time.monotonic() - self._looked_at < HEARTBEAT_SECONDS:
            return {}
        self._looked_at = time.monotonic()
        found = await topics_within(self._ranges)
        new = [row for row in found if row.name not in self._followed]
        room = max(MAX_TOPICS - len(self._followed), 0)
        self.is_too_much = len(new) > room
        return {row.name: Position(row.topic_id, 0, row.head, JOINED) for row in new[:room]}


async def topics_within(ranges: Sequence[Range]) -> list[TopicRow]:
    """Return the topics whose names are within the ranges, one more than a watch may have at most."""
    return await descriptions.list_topics(ranges, after="", limit=MAX_TOPICS + 1)
