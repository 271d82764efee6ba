"""Topics that appear under a prefix while a stream is open: they join it with their first record."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

import psycopg

from apps.core.sse import hub
from apps.core.sse.stream import HEARTBEAT_SECONDS
from apps.core.sse.subscription import BLIND_SECONDS, Subscription
from apps.topics import descriptions, names
from apps.topics.watch.positions import JOINED, MAX_TOPICS, Position

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from apps.core.sse.bell import Bell
    from apps.topics.descriptions import TopicRow

log = logging.getLogger(__name__)

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
        self._looked_at = -math.inf
        self.is_too_much = False

    def wake(self, channel: str) -> None:
        """Look again soon, if this is somebody new and there is room."""
        if self.is_too_much and len(self._followed) >= MAX_TOPICS:
            return  # else each append to a topic that was left out would be a look
        if channel.removeprefix(names.channel("")) not in self._followed:
            self._look_again()

    async def join(self) -> dict[str, Position]:
        """Return the topics that have appeared since the last time, to be followed from their beginning.

        Looks when there was news, and every heartbeat. No more than a watch may have; `is_too_much` says if there are.
        """
        if time.monotonic() - self._looked_at < HEARTBEAT_SECONDS:
            return {}
        self._looked_at = time.monotonic()
        try:
            found = await topics_within(self._ranges)
        except psycopg.OperationalError as exc:
            # Whom the stream follows already waits for Postgres, too (`pages`).
            log.warning("nobody can join a watch, trying again: %s", exc)
            asyncio.get_running_loop().call_later(BLIND_SECONDS, self._look_again)
            return {}
        new = [row for row in found if row.name not in self._followed]
        room = max(MAX_TOPICS - len(self._followed), 0)
        self.is_too_much = len(new) > room
        return {row.name: Position(row.topic_id, 0, row.head, JOINED) for row in new[:room]}

    def _look_again(self) -> None:
        self._looked_at = -math.inf
        self._stream_bell.ring()


async def topics_within(ranges: Sequence[Range]) -> list[TopicRow]:
    """Return the topics whose names are within the ranges, one more than a watch may have at most."""
    return await descriptions.list_topics(ranges, after="", limit=MAX_TOPICS + 1)
