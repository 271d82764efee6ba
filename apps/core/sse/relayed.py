"""A stream of what a log tells on some channels: what it has told already, then what it tells, without gap or double."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from apps.core.errors import Unavailable
from apps.core.sse import frames, relay
from apps.core.sse.bell import Bell
from apps.core.sse.stream import Step, follow_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from apps.core.sse.log import Event, Log
    from apps.core.sse.relay import Relay

# Events that wait for a client who doesn't take them; then its stream ends, and it comes back with the last id it has.
MOST_WAITING = 5_000
_PER_STEP = 500


class Start(NamedTuple):
    """Where a stream begins: behind a position of the log, and behind an id."""

    after: int
    seen: int


class Terms(NamedTuple):
    """What a stream tells, and when it ends."""

    channels: frozenset[str]
    # Judges events of this log's own kind.
    wants: Callable[[Any], bool]
    seconds: float = float("inf")
    # Don't end when the channels have.
    keep_open: bool = False
    # All channels have ended, and have told nothing behind this position.
    until: int | None = None


def follow_log(source: Log, start: Start, terms: Terms, *, opening: bytes) -> AsyncIterator[bytes]:
    """Yield `opening`, then the frames of what a log tells, until its channels or the time have ended."""
    return follow_source(_Relayed(source, start, terms), opening=opening)


class _Relayed:
    """One stream: behind the log it reads by itself, then it is told what everybody is."""

    def __init__(self, source: Log, start: Start, terms: Terms) -> None:
        self.channels = terms.channels
        self._terms = terms
        self._log = source
        # Found when it joins: one that it knew before may have gone with its last stream.
        self._relay: Relay | None = None
        self._after, self._seen = start
        self._ends_at = time.monotonic() + terms.seconds
        # Up to where it has to read by itself when it has joined.
        self._until = 0
        self._reads_alone = False
        self._waiting: deque[Event] = deque()
        self._is_slow = False
        self._has_ended = False
        self._bell = Bell()
        self.ring = self._bell.ring

    # --- told by the relay ------------------------------------------------------------------------

    def offer(self, event: Event) -> bool:
        if self._is_slow or not self._terms.wants(event):
            return False
        self._waiting.append(event)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.clear()
            self._is_slow = True
        return True

    def end(self) -> None:
        self._has_ended = True
        self.ring()

    # --- asked by the stream ----------------------------------------------------------------------

    async def open(self) -> Callable[[], Awaitable[Step]]:
        return self._read

    async def wait(self, timeout: float) -> bool:
        return await self._bell.wait(min(timeout, max(self._ends_at - time.monotonic(), 0)))

    def close(self) -> None:
        self._bell.close()
        if self._relay is not None:
            self._relay.leave(self)

    def farewell(self) -> bytes:
        return end_of("shutdown")

    async def _read(self) -> Step:
        if time.monotonic() >= self._ends_at:
            return Step([end_of("timeout")], is_over=True)
        if self._terms.until is not None and self._after >= self._terms.until:
            return Step([end_of("all_terminal")], is_over=True)
        if self._relay is None or self._after < self._until:
            try:
                return await self._catch_up()
            except (psycopg.OperationalError, Unavailable):
                return Step([frames.database_away()], is_over=True)
        self._relay.check()
        if self._is_slow:
            return Step([end_of("slow_consumer")], is_over=True)
        found = [event.frame for event in self._take()]
        if self._waiting:
            return Step(found, has_more=True)
        if self._has_ended and not self._terms.keep_open:
            return Step([*found, end_of("all_terminal")], is_over=True)
        return Step(found)

    async def _catch_up(self) -> Step:
        read = partial(self._log.read, self._after, _PER_STEP, self.channels)
        if self._reads_alone:
            page = await read()
        else:
            # All who were at a process that has died come at once. A full page is the same for ever.
            shared = relay.of(self._log).shared
            key = (self._after, self.channels)
            page = await shared.get(key, read, is_final=lambda found: found.has_more)
        self._after = page.after
        if self._relay is None and not page.has_more:
            # What has been told since then is read once more from here: by now it is little.
            self._relay = relay.of(self._log)
            self._until = self._relay.join(self, self._after)
        elif self._reads_alone and not page.has_more:
            # Joined before this was read: what came after it is being told. A log that begins anew has no such position.
            self._until = min(self._until, self._after)
        elif not page.has_more:
            # Who began this read may have done so before this stream joined.
            self._reads_alone = True
        found = [
            event.frame for event in page.events if self._terms.wants(event) and self._is_new(event)
        ]
        return Step(found, has_more=True)

    def _take(self) -> list[Event]:
        some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _PER_STEP))]
        return [event for event in some if self._is_new(event)]

    def _is_new(self, event: Event) -> bool:
        is_new = event.id > self._seen
        self._seen = max(self._seen, event.id)
        return is_new


def end_of(reason: str) -> bytes:
    """Return the comment that tells why a stream ends."""
    return frames.comment(f"end reason={reason}")
