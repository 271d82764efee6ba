"""One log, read once in each event loop, and passed on to all the streams that follow parts of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import psycopg

from apps.core import lifespan
from apps.core.errors import Unavailable
from apps.core.sse import hub
from apps.core.sse.sharing import Shared
from apps.core.sse.subscription import BLIND_SECONDS, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apps.core.sse.log import Event, Listener, Log

log = logging.getLogger(__name__)

# A lost wake-up costs no more than this.
_POLL_SECONDS = 10.0
# So many events are passed on before anybody else in the event loop has a turn.
_MOST_OFFERS = 20_000
_PAGE = 500
# A round of frames takes a stream 25 µs: rounds so far apart leave half of the process's time to whoever writes.
_ROUND_SECONDS_PER_LISTENER = 50e-6
_CLOCK_SECONDS = 0.001


class Relay(Subscription):
    """A log that is followed in this event loop."""

    def __init__(self, source: Log) -> None:
        super().__init__(hub.current(), [source.news, f"{source.ends}*"])
        self.log = source
        self._position = 0
        self._listeners: dict[str, set[Listener]] = {}
        # Channels of which it isn't known, or not any more, whether they have ended; and those that have.
        self._unsure: set[str] = set()
        self._ended: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._is_over = False
        self.shared = Shared()

    def join(self, listener: Listener, after: int) -> int:
        """Offer a listener all that follows a position, which is returned: `after` if nobody else listens yet."""
        for channel in listener.channels:
            self._listeners.setdefault(channel, set()).add(listener)
        self._unsure |= listener.channels
        if self._reader is None:
            self._position = after
            self._reader = asyncio.create_task(self._run(), name=f"relay {self.log.news}")
            self._reader.add_done_callback(lambda _: self._ring(self._everybody()))
            lifespan.on_close(close)
        self._bell.ring()
        return self._position

    def leave(self, listener: Listener) -> None:
        """Forget a listener; the last one takes the relay with it."""
        for channel in listener.channels:
            listening = self._listeners.get(channel, set())
            listening.discard(listener)
            if not listening:
                self._listeners.pop(channel, None)
                self._unsure.discard(channel)
                self._ended.discard(channel)
        if not self._listeners:
            self._end()

    def check(self) -> None:
        """Raise what has stopped the relay for a reason that nobody foresaw."""
        if self._reader is not None and self._reader.done():
            self._reader.result()

    def wake(self, channel: str) -> None:
        if lifespan.is_draining():
            self._ring(self._everybody())
        if channel.startswith(self.log.ends):
            ending = channel[len(self.log.ends) :]
            if ending and ending not in self._listeners:
                return
            self._unsure.update({ending} if ending else self._listeners)
        super().wake(channel)

    async def stop(self) -> None:
        """Read no more."""
        self._end()
        await self.shared.close()
        if self._reader is not None:
            await asyncio.wait({self._reader})

    def _end(self) -> None:
        # Not cancelled: a statement that is interrupted takes its connection with it.
        self._is_over = True
        self._bell.ring()
        _forget(self)

    async def _run(self) -> None:
        with self:
            while not self._is_over:
                try:
                    await self._look()
                except (psycopg.OperationalError, Unavailable) as exc:
                    log.warning("streams of %s wait for Postgres: %s", self.log.news, exc)
                    await asyncio.sleep(BLIND_SECONDS)
                    continue
                if not await self.wait(_POLL_SECONDS) or not self._hub.hears:
                    self._unsure.update(self._listeners)

    async def _look(self) -> None:
        """Pass on what is new; then say who has heard the last, of those of whom it was known before the log was read."""
        unsure, self._unsure = self._unsure, set()
        asking = {one for one in self._everybody() if not unsure.isdisjoint(one.channels)}
        try:
            if unsure:
                self._ended -= unsure
                self._ended |= set(await self.log.ended(unsure))
            while True:
                page = await self.log.read(self._position, self._page_size())
                self._position = page.after
                await self._rest_after(self._pass_on(page.events))
                if not page.has_more:
                    break
        except BaseException:
            self._unsure |= unsure & self._listeners.keys()
            raise
        for listener in asking:
            if listener.channels <= self._ended:
                listener.end()

    def _pass_on(self, events: Sequence[Event]) -> int:
        """Offer events, and return how many listeners have something to send now."""
        told: set[Listener] = set()
        for event in events:
            told.update(one for one in self._listeners.get(event.channel, ()) if one.offer(event))
        self._ring(told)
        return len(told)

    async def _rest_after(self, listeners: int) -> None:
        rest = listeners * _ROUND_SECONDS_PER_LISTENER
        if rest >= _CLOCK_SECONDS:
            await asyncio.sleep(rest)

    def _page_size(self) -> int:
        most = max(map(len, self._listeners.values()), default=1)
        return max(min(_PAGE, _MOST_OFFERS // most), 1)

    def _everybody(self) -> set[Listener]:
        return set().union(*self._listeners.values())

    def _ring(self, listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            listener.ring()


_relays: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Relay]] = WeakKeyDictionary()


def of(source: Log) -> Relay:
    """Return the relay of a log in the running event loop."""
    relays = _relays.setdefault(asyncio.get_running_loop(), {})
    found = relays.get(source.news)
    if found is None:
        found = relays[source.news] = Relay(source)
    return found


async def close() -> None:
    """Stop the relays of the running event loop."""
    for relay in list(_relays.pop(asyncio.get_running_loop(), {}).values()):
        await relay.stop()


def _forget(relay: Relay) -> None:
    relays = _relays.get(asyncio.get_running_loop(), {})
    if relays.get(relay.log.news) is relay:
        del relays[relay.log.news]
