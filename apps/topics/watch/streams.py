"""The open streams of sessions in this process: sharing a session's positions, and writing them down lazily.

A stream that comes with a `Last-Event-ID` is its client's next attempt: it takes the session over, and older streams,
whose client has gone without our notice, end instead of taking records away from it. Streams without one divide the
records of their session, in this process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import psycopg

from apps.core import lifespan
from apps.core.sse.bell import Bell
from apps.core.sse.stream import follow_source
from apps.topics.watch import sessions
from apps.topics.watch.following import Follower
from apps.topics.watch.frames import Frames
from apps.topics.watch.newcomers import Newcomers
from apps.topics.watch.positions import MAX_TOPICS, Unnamed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from apps.core.sse.outlet import Outlet
    from apps.core.sse.stream import Step
    from apps.topics.watch.positions import Position, Told
    from apps.topics.watch.sessions import Opening, Session

log = logging.getLogger(__name__)

# How much a client that comes back without an id may hear twice, if its web process was killed.
_KEEP_SECONDS = 5.0
# A fifth of the session's time: one write that fails ends no session.
_IN_USE_SECONDS = 60.0
# Streams that end together are written down together.
_ENDED_SECONDS = 0.05

_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, Keeper] = WeakKeyDictionary()


def frames_of(
    session: Session, told: dict[str, Told] | Unnamed | None, outlet: Outlet
) -> AsyncIterator[bytes]:
    """Yield the frames of a session, from where its client says it was told to, or push them through `outlet`."""
    heartbeat = session.subscription.heartbeat_ms / 1000
    return follow_source(_Stream(session, told, outlet), heartbeat=heartbeat, outlet=outlet)


class _Stream:
    """A stream of a session."""

    def __init__(
        self, session: Session, told: dict[str, Told] | Unnamed | None, outlet: Outlet
    ) -> None:
        self._session = session
        self._outlet = outlet
        self._told = told
        self._keeper = _keepers.setdefault(asyncio.get_running_loop(), Keeper())
        self._live: _Live | None = None
        self._newcomers: Newcomers | None = None
        self._bell = Bell()
        self.wait = self._bell.wait

    async def open(self) -> Callable[[], Awaitable[Step]] | None:
        live = await self._keeper.open(self._session, self._told)
        if live is None:
            return None  # gone, or taken over, at this very moment
        subscription = self._session.subscription
        self._dialect = Frames(live.positions, drops_deleted=bool(subscription.ranges))
        self._follower = Follower(
            self._dialect, self._bell, ends=not subscription.ranges, outlet=self._outlet
        )
        self._follower.add(live.positions, subscription.selection)
        live.followers.add(self._follower)
        self._live = live
        if not subscription.ranges:
            return self._follower.read
        self._newcomers = Newcomers(subscription.ranges, self._follower.names, self._bell)
        self._newcomers.__enter__()
        return partial(self._read_with_newcomers, live.positions, self._newcomers)

    async def _read_with_newcomers(
        self, positions: dict[str, Position], newcomers: Newcomers
    ) -> Step:
        was_too_much = newcomers.is_too_much
        found = await newcomers.join()
        # Another stream of the session may follow them already.
        new = {name: positions.setdefault(name, position) for name, position in found.items()}
        self._follower.add(new, self._session.subscription.selection)
        step = await self._follower.read()
        if newcomers.is_too_much and not was_too_much:
            return step._replace(frames=[*step.frames, self._dialect.too_many_topics(MAX_TOPICS)])
        return step

    def close(self) -> None:
        self._bell.close()
        if self._live is not None:
            self._follower.close()
            if self._newcomers is not None:
                self._newcomers.__exit__()
            self._keeper.ended(self._live, self._follower)

    def farewell(self) -> bytes:
        return self._dialect.farewell()


class _Live:
    """A session with open streams in this process."""

    def __init__(self, wid: str, epoch: int, positions: dict[str, Position]) -> None:
        self.wid = wid
        self.epoch = epoch
        self.positions = positions
        self.followers: set[Follower] = set()
        # Streams that the row counts for this process; those that have ended are to be written down.
        self.counted = 0
        self.ended = 0
        self.is_to_be_kept = False
        self.kept_at = time.monotonic()

    def take_moves(self) -> bytes | None:
        """Return the positions to be stored, if they have moved since they were."""
        if not (self.is_to_be_kept or any(follower.has_moved for follower in self.followers)):
            return None
        self.is_to_be_kept = False
        for follower in self.followers:
            follower.has_moved = False
        return sessions.encode_positions(self.positions)

    def stop(self) -> None:
        """End the streams: others have taken their place."""
        for follower in self.followers:
            follower.stop()


class Keeper:
    """The sessions with open streams in one event loop."""

    def __init__(self) -> None:
        self._live: dict[str, _Live] = {}
        self._writer: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()
        self._openings: set[asyncio.Task[_Live | None]] = set()

    async def open(self, session: Session, told: dict[str, Told] | Unnamed | None) -> _Live | None:
        """Open a stream of a session, and return the session as this process has it; None if it has gone."""
        opening = asyncio.create_task(self._open(session, told))
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The client has left meanwhile: what was begun is done, so that what it counted can be taken back.
            opening.add_done_callback(self._opened_in_vain)
            raise

    async def _open(self, session: Session, told: dict[str, Told] | Unnamed | None) -> _Live | None:
        opening = await sessions.open_stream(session.wid, takes_over=told is not None)
        return None if opening is None else self._join(session, opening, told)

    def _opened_in_vain(self, opening: asyncio.Task[_Live | None]) -> None:
        if not opening.cancelled() and not opening.exception() and (live := opening.result()):
            self.ended(live)

    def _join(
        self, session: Session, opening: Opening, told: dict[str, Told] | Unnamed | None
    ) -> _Live | None:
        known = self._live.get(session.wid)
        if known is not None and known.epoch > opening.epoch:
            return None
        # Streams that the row counts and nobody here has are in another process, or have died with it.
        is_exact = opening.open_before == (known.counted if known is not None else 0)
        stored = known.positions if known is not None else opening.positions
        if known is None or known.epoch < opening.epoch:
            if known is not None:
                known.stop()
            named = told.named(stored) if isinstance(told, Unnamed) else told or {}
            positions = sessions.resume(session.subscription, stored, named, is_exact=is_exact)
            known = self._live[session.wid] = _Live(session.wid, opening.epoch, positions)
        known.counted += 1
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="watch-sessions")
            lifespan.on_close(close)
        return known

    def ended(self, live: _Live, follower: Follower | None = None) -> None:
        """Note that a stream has ended."""
        if follower is not None:
            live.followers.discard(follower)
        live.ended += 1
        live.is_to_be_kept = True
        self._soon.set()

    async def write_down(self) -> None:
        """Store what has changed since the last time."""
        now = time.monotonic()
        noted = {}
        for live in self._live.values():
            moved = live.take_moves()
            if moved is not None or now - live.kept_at > _IN_USE_SECONDS:
                noted[live] = (live.epoch, moved, live.ended)
        if not noted:
            return
        try:
            kept = await sessions.keep({live.wid: note for live, note in noted.items()})
        except psycopg.Error as exc:
            log.warning("positions of watch sessions could not be stored: %s", exc)
            for live in noted:
                live.is_to_be_kept = True
            return
        for live, (_, _, ended) in noted.items():
            live.kept_at = now
            live.ended -= ended
            live.counted -= ended
            if live.wid not in kept:
                live.stop()
            if not live.counted or live.wid not in kept:
                self._forget(live)

    async def close(self) -> None:
        """Store what is left, and stop."""
        if self._openings:
            await asyncio.wait(self._openings)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
        await self.write_down()

    def _forget(self, live: _Live) -> None:
        if self._live.get(live.wid) is live:
            del self._live[live.wid]

    async def _write(self) -> None:
        while self._live:
            try:
                async with asyncio.timeout(_KEEP_SECONDS):
                    await self._soon.wait()
                await asyncio.sleep(_ENDED_SECONDS)
            except TimeoutError:
                pass
            self._soon.clear()
            await self.write_down()


async def write_down() -> None:
    """Write down now where the sessions of this event loop stand."""
    keeper = _keepers.get(asyncio.get_running_loop())
    if keeper is not None:
        await keeper.write_down()


async def close() -> None:
    """Stop, and write down where the sessions of this event loop stand."""
    keeper = _keepers.pop(asyncio.get_running_loop(), None)
    if keeper is not None:
        await keeper.close()
