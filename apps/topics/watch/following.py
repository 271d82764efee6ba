"""One connection that follows topics: what it is told, in which order (topics v0 §17.5), whatever the dialect."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from apps.core.sse.stream import Step
from apps.topics.retention import Gap
from apps.topics.watch import pages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apps.topics.queries import JsonPage
    from apps.topics.watch.pages import Reading, Selection, Tail
    from apps.topics.watch.positions import Position

# After so many pages, a topic that is written as fast as it is told lets the others have their turn.
_PAGES_IN_A_ROW = 16


class Dialect(Protocol):
    """How a connection says what it has to tell; called when the topic's position is already behind it."""

    def records(self, name: str, reading: Reading, page: JsonPage, from_seq: int) -> bytes: ...
    def lost(self, name: str, gap: Gap, *, is_first: bool) -> bytes: ...
    def caught_up(self, name: str, head: int) -> bytes: ...
    def deleted(self, name: str, head: int) -> bytes: ...


@dataclass(slots=True)
class _Followed:
    """A topic of this connection."""

    position: Position
    selection: Selection
    tail: Tail
    # What it is told was read after this: nothing that was deleted before the connection came.
    not_before: int
    is_first: bool = True
    is_caught_up: bool = False
    # Pages since it was last caught up.
    pages: int = 0

    @property
    def turns(self) -> int:
        return self.pages // _PAGES_IN_A_ROW


class Follower:
    """Follows topics on behalf of one connection; holds nothing but where it stands.

    Positions may be shared with other connections of a session, which then divide the records between them.
    """

    def __init__(self, dialect: Dialect, *, ends: bool = True) -> None:
        self._dialect = dialect
        # Whether it is over when every topic is gone.
        self._ends = ends
        self._tails = pages.current()
        self._topics: dict[str, _Followed] = {}
        self._pending: set[str] = set()
        self._news = asyncio.Event()
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._topics):
            self.remove(name)

    def add(self, positions: Mapping[str, Position], selection: Selection) -> None:
        """Follow topics from their positions, in place of what was followed under their names."""
        for name, position in positions.items():
            self.remove(name)
            tail = self._tails.join(name, self)
            self._topics[name] = _Followed(position, selection, tail, self._tails.tick())
            self.wake(name)

    def remove(self, name: str) -> bool:
        """Follow a topic no longer; say whether it was followed."""
        followed = self._topics.pop(name, None)
        self._pending.discard(name)
        if followed is not None:
            followed.tail.leave(self)
        return followed is not None

    def wake(self, name: str) -> None:
        """Look at a topic again."""
        if name in self._topics:
            self._pending.add(name)
            self._news.set()

    def stop(self) -> None:
        """End the stream: another has taken its place."""
        self._is_stopped = True
        self._news.set()

    async def wait(self, timeout: float) -> bool:
        """Wait for news, at most `timeout` seconds; say whether there is some."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def read(self) -> Step:
        """Return what there is to tell now: of the next topic that has something, a page at a time."""
        self._news.clear()
        waiting: set[str] = set()
        while not self._is_stopped and (names := self._pending - waiting):
            name = next(iter(names)) if len(names) == 1 else min(names, key=self._turn)
            told = await self._look(name, self._topics[name])
            if told is None:
                # Postgres is away; the tail says when to try again.
                waiting.add(name)
            elif told:
                return Step(told, has_more=bool(self._pending), is_over=self._is_over)
        return Step([], is_over=self._is_over)

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or (self._ends and not self._topics)

    def _turn(self, name: str) -> tuple[int, str]:
        return self._topics[name].turns, name

    async def _look(self, name: str, followed: _Followed) -> list[bytes] | None:
        """Read a topic once and return what is to be told; None if that has to wait."""
        position = followed.position
        after = position.seq
        reading = followed.tail.read(after, followed.selection, not_before=followed.not_before)
        await reading.wait()
        if reading.has_failed:
            return None
        if self._topics.get(name) is not followed or position.seq != after:
            return []  # unsubscribed meanwhile, or told by another connection of the session
        page = reading.page
        if page is None:
            self.remove(name)
            return [self._dialect.deleted(name, position.head)]
        if page.topic_id != position.incarnation or after > page.marks.head:
            return [self._tell_recreation(name, followed, page)]
        return self._tell(name, followed, reading, page)

    def _tell_recreation(self, name: str, followed: _Followed, page: JsonPage) -> bytes:
        """⚑21: another topic has the name now, however far it has come; it is read from its beginning."""
        position, marks = followed.position, page.marks
        position.incarnation, position.head = page.topic_id, marks.head
        position.seq = marks.earliest - 1
        followed.is_caught_up = False
        followed.not_before = self._tails.tick()
        gap = Gap(1, marks.head, "recreated", marks.earliest, marks.head)
        is_first, followed.is_first = followed.is_first, False
        return self._dialect.lost(name, gap, is_first=is_first)

    def _tell(
        self, name: str, followed: _Followed, reading: Reading, page: JsonPage
    ) -> list[bytes]:
        position, gap = followed.position, page.gap
        from_seq, position.head = position.seq, page.marks.head
        told = []
        if gap is not None:
            position.seq = gap.gap_to
            told.append(self._dialect.lost(name, gap, is_first=followed.is_first))
        if page.count:
            position.seq = page.next_after
            told.append(self._dialect.records(name, reading, page, from_seq))
        elif gap is None:
            position.seq = page.next_after
        followed.is_first = False
        followed.pages += 1
        if told:
            followed.is_caught_up = False
        if page.caught_up and not followed.tail.has_changed_since(reading):
            self._pending.discard(name)
            followed.pages = 0
            if not followed.is_caught_up:
                followed.is_caught_up = True
                told.append(self._dialect.caught_up(name, page.marks.head))
        return told
