"""The pages that the watchers of one process read: each once, whoever wants it.

A topic that is watched has one `Tail` in the process. It hears the topic's wake-ups and passes them on; watchers that
stand at the same seq and want the same of it share one read, the bytes it found, and what is made of them. Those who
come a moment late are given the page that the others had, so that they fall in step again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import psycopg

from apps.core import lifespan, pgarray, sql
from apps.core.sse import hub
from apps.core.sse.subscription import BLIND_SECONDS, Subscription
from apps.topics import queries
from apps.topics.appending import justwritten
from apps.topics.keeping import eviction, touches
from apps.topics.watch import fresh
from apps.topics.watch.readings import Reading, Selection, Spot, Watcher, is_late

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apps.topics.appending.justwritten import Batch
    from apps.topics.queries import JsonPage

log = logging.getLogger(__name__)

_KEPT_BYTES = 32 * 1024 * 1024
_KEPT_PAGES = 1024
# A round of frames takes 25 µs for a watcher that is woken, 10 for one whose frames are pushed. Rounds so far apart take
# half of the process's time at most, leave the other half to whoever writes what they tell, and carry more records each.
_WOKEN_SECONDS = 50e-6
_PUSHED_SECONDS = 12e-6
_CLOCK_SECONDS = 0.001
# A lost wake-up costs no more than this.
_POLL_SECONDS = 10.0

_tails: WeakKeyDictionary[asyncio.AbstractEventLoop, Tails] = WeakKeyDictionary()


class Tail(Subscription):
    """A topic that is watched in this process."""

    __slots__ = (
        "_fresh",
        "_loop",
        "_next_round",
        "_next_round_at",
        "_parked",
        "_tails",
        "_watchers",
        "changed",
        "head",
        "name",
        "seen_at",
        "topic_id",
    )

    def __init__(self, tails: Tails, name: str) -> None:
        super().__init__(hub.current(), [queries.channel(name)])
        self._tails = tails
        self.name = name
        self._watchers: set[Watcher] = set()
        self._parked: dict[Spot, set[Watcher]] = {}
        self._loop = asyncio.get_running_loop()
        self._next_round: asyncio.TimerHandle | None = None
        self._next_round_at = 0.0
        self._fresh = fresh.Fresh()
        # What the last read saw, by the registry's clock and by the wall's.
        self.changed = tails.tick()
        self.topic_id: int | None = None
        self.head = 0
        self.seen_at = 0.0

    def wake(self, channel: str = "") -> None:
        """Read what may be new, for the watchers that wait for it; those that are busy come for it by themselves."""
        self.changed = self._tails.tick()
        self._fresh.hear(self.changed)
        self._look_soon()

    def offer(self, batch: Batch) -> None:
        """Take what was written here, if somebody waits for it; its wake-up follows."""
        if self._parked and batch.topic_id == self.topic_id:
            self._fresh.offer(batch, changed=self.changed)

    def enter(self, watcher: Watcher) -> None:
        """Take a watcher in."""
        self._watchers.add(watcher)

    def park(self, watcher: Watcher, spot: Spot, reading: Reading) -> None:
        """Wake a watcher when there is more than it has seen by a read."""
        self._parked.setdefault(spot, set()).add(watcher)
        if self.has_changed_since(reading) and self._next_round is None:
            # Not at once: the others that have seen as much are about to be parked here, too.
            self._next_round = self._loop.call_at(self._next_round_at, self._look)

    def close(self) -> None:
        """Look no more."""
        self.__exit__()
        if self._next_round is not None:
            self._next_round.cancel()

    def leave(self, watcher: Watcher, spot: Spot | None) -> None:
        """Let a watcher go, from where it was parked; the last one takes the tail with it."""
        if spot is not None and (waiting := self._parked.get(spot)) is not None:
            waiting.discard(watcher)
            if not waiting:
                del self._parked[spot]
        self._watchers.discard(watcher)
        if not self._watchers:
            self._tails.forget(self)

    def read(self, after: int, selection: Selection, *, not_before: int) -> Reading:
        """Return the page after a seq, shared: begun since the topic changed and since `not_before`, or under way."""
        key = (self.name, after, selection)
        found = self._tails.readings.get(key)
        if found is not None and found.began >= not_before:
            if not found.is_done or (found.began > self.changed and not found.has_failed):
                return found
            if self._is_good_for_late(found):
                return found
        return self._tails.begin(self, key)

    @property
    def is_rested(self) -> bool:
        """Say whether its watchers have had enough time since their last round."""
        # What the loop's clock can't tell from now is now.
        return self._next_round_at - self._loop.time() < _CLOCK_SECONDS

    def _look_soon(self) -> None:
        if self._next_round is not None or not self._parked:
            return
        if self.is_rested:
            self._look()
        else:
            self._next_round = self._loop.call_at(self._next_round_at, self._look)

    def _look(self) -> None:
        self._next_round = None
        parked, self._parked = self._parked, {}
        rest = 0.0
        for watchers in parked.values():
            pushed = sum([watcher.is_pushed for watcher in watchers])
            rest += pushed * _PUSHED_SECONDS + (len(watchers) - pushed) * _WOKEN_SECONDS
        self._next_round_at = self._loop.time() + rest
        written = self._fresh.take(changed=self.changed)
        for (after, selection), watchers in parked.items():
            page = None if written is None else written.page(after, selection)
            if page is None:
                self.read(after, selection, not_before=0).wake_when_done(self.name, watchers)
            else:
                self._tell(page, after, selection, watchers)

    def _tell(
        self, page: JsonPage, after: int, selection: Selection, watchers: Iterable[Watcher]
    ) -> None:
        """Hand watchers what needn't be read; whoever can't take it at once reads."""
        reading = Reading(self._tails.tick(), after, selection)
        reading.page = page
        self.saw(page)
        touches.read(page.topic_id)
        reading.wake_when_done(self.name, watchers)
        reading.end()

    def _is_good_for_late(self, reading: Reading) -> bool:
        page = reading.page
        is_full = page is not None and page.count > 0 and page.topic_id == self.topic_id
        return is_full and not is_late(reading)

    def has_changed_since(self, reading: Reading) -> bool:
        """Say whether there may be something that a read has not seen."""
        return reading.began < self.changed

    def saw(self, page: JsonPage | None) -> None:
        """Note what a read has seen."""
        self.seen_at = time.monotonic()
        self.topic_id = None if page is None else page.topic_id
        self.head = 0 if page is None else page.marks.head


class Tails:
    """The watched topics of one event loop, the pages they have in common, and the poll behind their wake-ups."""

    def __init__(self) -> None:
        self.readings: OrderedDict[tuple[str, int, Selection], Reading] = OrderedDict()
        self._by_name: dict[str, Tail] = {}
        self._kept_bytes = 0
        self._clock = 0
        self._poller: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def tick(self) -> int:
        """Return the next moment: a clock that never stands still, so that before and after are certain."""
        self._clock += 1
        return self._clock

    def join(self, name: str, watcher: Watcher) -> Tail:
        """Have a watcher told of a topic's news from here on."""
        tail = self._by_name.get(name)
        if tail is None:
            tail = self._by_name[name] = Tail(self, name)
            tail.__enter__()
            justwritten.take(name, tail)
        tail.enter(watcher)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="watch-poll")
            lifespan.on_close(close)
        return tail

    def forget(self, tail: Tail) -> None:
        """Stop listening for a topic that nobody watches."""
        if self._by_name.get(tail.name) is tail:
            del self._by_name[tail.name]
            justwritten.leave(tail.name, tail)
            tail.close()

    def begin(self, tail: Tail, key: tuple[str, int, Selection]) -> Reading:
        """Start a read that others may join."""
        self._drop_old()
        _, after, selection = key
        reading = Reading(self.tick(), after, selection)
        self._kept_bytes -= _size(self.readings.pop(key, None))
        self.readings[key] = reading
        task = asyncio.create_task(self._read(tail, key, reading))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return reading

    async def close(self) -> None:
        """Stop polling, and drop what is kept."""
        for tail in self._by_name.values():
            justwritten.leave(tail.name, tail)
        tasks = {*self._running, *([self._poller] if self._poller else [])}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._poller = None
        self.readings.clear()
        self._kept_bytes = 0

    async def _read(self, tail: Tail, key: tuple[str, int, Selection], reading: Reading) -> None:
        name, after, selection = key
        try:
            reading.page = await queries.read_records(
                name,
                after=after,
                limit=selection.limit,
                budget=selection.budget,
                nodes=selection.nodes,
                tag=selection.tag,
                with_tags=selection.with_tags,
                with_meta=selection.with_meta,
                with_data=selection.with_data,
            )
        except psycopg.OperationalError as exc:
            log.warning("watchers of %s wait for Postgres: %s", name, exc)
            reading.has_failed = True
            asyncio.get_running_loop().call_later(BLIND_SECONDS, tail.wake)
        except Exception as exc:
            # Whoever waits for it is told; nobody else looks at this task.
            reading.error = exc
        else:
            tail.saw(reading.page)
            if reading.page is not None:
                touches.read(reading.page.topic_id)
            if self.readings.get(key) is reading:
                self._kept_bytes += _size(reading)
        finally:
            reading.end()

    def _drop_old(self) -> None:
        """Drop pages that nobody comes for any more, from the oldest."""
        while self.readings:
            key, oldest = next(iter(self.readings.items()))
            is_much = self._kept_bytes > _KEPT_BYTES or len(self.readings) > _KEPT_PAGES
            if not oldest.is_done or not (is_much or is_late(oldest)):
                return
            del self.readings[key]
            self._kept_bytes -= _size(oldest)

    async def _poll(self) -> None:
        while self._by_name:
            await asyncio.sleep(_POLL_SECONDS if hub.current().hears else BLIND_SECONDS)
            self._drop_old()
            unseen = time.monotonic() - _POLL_SECONDS / 2
            quiet = [
                tail
                for tail in self._by_name.values()
                if tail.seen_at < unseen or not hub.current().hears
            ]
            try:
                await self._look_at(quiet)
            except psycopg.OperationalError as exc:
                log.warning("watched topics could not be looked at: %s", exc)

    async def _look_at(self, tails: list[Tail]) -> None:
        if not tails:
            return
        names = pgarray.texts([tail.name.encode() for tail in tails])
        found = await sql.run_async("topics/poll_topics", names=names, now=eviction.now_ms())
        rows = {row["name"]: row for row in found.rows}
        for tail in tails:
            row = rows.get(tail.name)
            seen = (None, 0) if row is None else (row["id"], row["head"])
            if seen != (tail.topic_id, tail.head) or (row is not None and row["unsettled"]):
                tail.wake()


def current() -> Tails:
    """Return the tails of the running event loop."""
    return _tails.setdefault(asyncio.get_running_loop(), Tails())


async def close() -> None:
    """Stop what runs for the watchers of this event loop."""
    tails = _tails.pop(asyncio.get_running_loop(), None)
    if tails is not None:
        await tails.close()


def _size(reading: Reading | None) -> int:
    return 0 if reading is None or reading.page is None else len(reading.page.body)
