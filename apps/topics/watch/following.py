"""One connection that follows topics: what it is told, in which order (topics v0 §17.5), whatever the dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from msgspec import structs

from apps.core import lifespan
from apps.core.held import FRAMES
from apps.core.sse.stream import Step
from apps.topics.keeping.retention import Gap
from apps.topics.watch import pages

if TYPE_CHECKING:
    from collections.abc import KeysView, Mapping

    from apps.core.sse.bell import Bell
    from apps.core.sse.outlet import Outlet
    from apps.topics.queries import JsonPage
    from apps.topics.watch.pages import Tail
    from apps.topics.watch.positions import Position
    from apps.topics.watch.readings import Reading, Selection, Spot

# After so many pages, a topic that is written as fast as it is told lets the others have their turn.
_PAGES_IN_A_ROW = 16
# Bytes of a page when memory is short: what a connection's buffer takes at once.
_LEAST_BUDGET = 64 * 1024


class Dialect(Protocol):
    """How a connection says what it has to tell; called when the topic's position is already behind it."""

    def records(self, name: str, reading: Reading, page: JsonPage, from_seq: int) -> bytes: ...
    def lost(self, name: str, gap: Gap, *, is_first: bool) -> bytes: ...
    def caught_up(self, name: str, reading: Reading, head: int) -> bytes: ...
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
    # Where it waits for more.
    spot: Spot | None = None

    @property
    def turns(self) -> int:
        return self.pages // _PAGES_IN_A_ROW


def _within_means(selection: Selection) -> Selection:
    """Return what is read at a time: less if this process keeps much already for clients who don't take it."""
    if selection.budget > _LEAST_BUDGET and FRAMES.is_used_up():
        return structs.replace(selection, budget=_LEAST_BUDGET)
    return selection


class Follower:
    """Follows topics on behalf of one connection; holds nothing but where it stands.

    Positions may be shared with other connections of a session, which then divide the records between them.
    """

    def __init__(
        self,
        dialect: Dialect,
        bell: Bell,
        *,
        ends: bool = True,
        outlet: Outlet | None = None,
    ) -> None:
        self._dialect = dialect
        # Where records are told while nobody reads, if there is such a way.
        self._outlet = outlet
        # Rung when there is something to read.
        self._bell = bell
        # Whether it is over when every topic is gone.
        self._ends = ends
        self._tails = pages.current()
        self._topics: dict[str, _Followed] = {}
        self._pending: set[str] = set()
        self._is_stopped = False
        # What the outlet did not take.
        self._left: list[bytes] = []
        # Set with whatever is told; whoever stores positions resets it.
        self.has_moved = False

    @property
    def names(self) -> KeysView[str]:
        """The topics that are followed: alive, not a copy."""
        return self._topics.keys()

    @property
    def is_pushed(self) -> bool:
        """Say whether records can be told without waking anybody."""
        return self._outlet is not None and self._outlet.is_open

    def close(self) -> None:
        """Follow nothing any more."""
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
            followed.tail.leave(self, followed.spot)
        return followed is not None

    def wake(self, name: str) -> None:
        """Look at a topic again."""
        if name in self._topics:
            self._pending.add(name)
            self._bell.ring()

    def hand(self, name: str, reading: Reading) -> None:
        """Tell what was read while the topic was waited for: at once if the client takes it, else as soon as it does."""
        followed = self._topics.get(name)
        if followed is None:
            return
        page = reading.page
        if page is None or not page.count or not self._can_push(followed, reading, page):
            self.wake(name)
            return
        self._pending.add(name)
        # It waits for the next round even if that is due: so all are told in one.
        told = self._tell_page(name, followed, reading, page, is_round=True)
        self.has_moved = True
        if self._outlet is None or not self._outlet.push(b"".join(told)):
            self._left = told
            self._bell.ring()
        elif self._pending:
            self._bell.ring()

    def _can_push(self, followed: _Followed, reading: Reading, page: JsonPage) -> bool:
        """Say whether a page is what would be told next if the stream's task looked now, and the task is asleep."""
        position = followed.position
        return (
            self.is_pushed
            and self._bell.is_waited_for
            and not (self._pending or self._left or self._is_stopped or lifespan.is_draining())
            and reading.after == position.seq <= page.marks.head
            and page.topic_id == position.incarnation
            and reading.selection == followed.selection
            and reading.began >= followed.not_before
        )

    def stop(self) -> None:
        """End the stream: another has taken its place."""
        self._is_stopped = True
        self._bell.ring()

    async def read(self) -> Step:
        """Return what there is to tell now: of the next topic that has something, a page at a time."""
        if self._left and not self._is_stopped:
            told, self._left = self._left, []
            return Step(told, has_more=bool(self._pending), is_over=self._is_over)
        while self._pending and not self._is_stopped:
            one_of = iter(self._pending)
            name = next(one_of) if len(self._pending) == 1 else min(one_of, key=self._turn)
            followed = self._topics[name]
            after = followed.position.seq
            selection = _within_means(followed.selection)
            reading = followed.tail.read(after, selection, not_before=followed.not_before)
            if not reading.is_done:
                await reading.wait()
            if reading.error is not None:
                raise reading.error
            if (
                self._is_over
                or self._topics.get(name) is not followed
                or followed.position.seq != after
            ):
                continue  # ended or unsubscribed meanwhile, or told by another connection of the session
            if selection != _within_means(selection):
                continue  # those who were told before have used up what there was
            if reading.has_failed:
                self._park(name, followed, reading)  # Postgres is away; the tail tries again
                continue
            told = self._tell(name, followed, reading)
            if told:
                self.has_moved = True
                return Step(told, has_more=bool(self._pending), is_over=self._is_over)
        return Step([], is_over=self._is_over)

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or (self._ends and not self._topics)

    def _turn(self, name: str) -> tuple[int, str]:
        return self._topics[name].turns, name

    def _tell(self, name: str, followed: _Followed, reading: Reading) -> list[bytes]:
        """Return what a page has to tell, with the position moved behind it."""
        position, page = followed.position, reading.page
        if page is None:
            self.remove(name)
            return [self._dialect.deleted(name, position.head)]
        if page.topic_id != position.incarnation or position.seq > page.marks.head:
            return [self._tell_recreation(name, followed, page)]
        return self._tell_page(name, followed, reading, page)

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

    def _tell_page(
        self,
        name: str,
        followed: _Followed,
        reading: Reading,
        page: JsonPage,
        *,
        is_round: bool = False,
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
        if not page.caught_up:
            return told
        has_changed = followed.tail.has_changed_since(reading)
        if not (has_changed or followed.is_caught_up):
            followed.is_caught_up = True
            told.append(self._dialect.caught_up(name, reading, page.marks.head))
        if not has_changed or is_round or not followed.tail.is_rested:
            self._park(name, followed, reading)
        return told

    def _park(self, name: str, followed: _Followed, reading: Reading) -> None:
        self._pending.discard(name)
        followed.pages = 0
        followed.spot = (followed.position.seq, followed.selection)
        followed.tail.park(self, followed.spot, reading)
