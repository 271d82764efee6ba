"""The desk of a queue in one event loop: what arrives while a pass is under way goes together into the next.

One transaction then serves many workers, and the queue's lock is taken once for all of them. Nobody waits on purpose but
for a coalescing window.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import psycopg

from apps.core import lifespan
from apps.core.errors import GyozaError, Throttled
from apps.core.sse import wakeups
from apps.topics import names
from apps.topics.appending import listeners
from apps.topics.queues import passes, windows
from apps.topics.queues.orders import Claim, Claimed, Filed, Nack, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.topics.queues.orders import Decided, Effects, Leased, Order, Outcome

log = logging.getLogger(__name__)

# Passes of one process that may be under way, each on another queue and with a connection of its own.
_PASSES_AT_ONCE = 4
# What one pass takes on, in verdicts about jobs; claims are bounded by what they are given.
_VERDICTS_PER_PASS = 20_000
# What may wait at one desk before clients are told to come back later.
_MOST_WAITING = 50_000
# How soon a claim that failed is taken out of its window: Postgres may be away for longer than a look.
_WITHDRAW_SECONDS = 0.5
# How long a process that ends waits for what it was asked.
CLOSE_SECONDS = 5.0


class _Office:
    """The desks of one event loop."""

    def __init__(self) -> None:
        self.desks: dict[str, Desk] = {}
        self.places = asyncio.Semaphore(_PASSES_AT_ONCE)


_offices: WeakKeyDictionary[asyncio.AbstractEventLoop, _Office] = WeakKeyDictionary()


def channel(name: str) -> str:
    """Return the wake-up channel of a queue's jobs; appends are told on the topic's own."""
    return f"queue:{name}"


async def claim(name: str, wanted: Claim) -> Claimed:
    """Lease jobs of a queue; raises TopicNotFound, NotAQueue or Throttled. If the caller is cancelled nobody has them."""
    future = order(name, wanted)
    try:
        return cast("Claimed", await future)
    except asyncio.CancelledError:
        # If it was answered just now: what is cancelled before is given back when the answer comes.
        if future.done() and not future.cancelled() and not future.exception():
            give_back(name, wanted.node, cast("Claimed", future.result()).jobs)
        raise


async def decide(name: str, verdict: Verdict) -> Decided:
    """Ack, nack or extend jobs of a queue; raises as `claim`. If the caller is cancelled it is done all the same."""
    return cast("Decided", await order(name, verdict))


def give_back(name: str, node: bytes, jobs: Sequence[Leased]) -> None:
    """Have jobs that nobody takes given back, ahead of fresh ones; never refused, however much waits."""
    if jobs:
        _desk(name).give_back(node, jobs)


def order(name: str, wanted: Order) -> asyncio.Future[Outcome]:
    """Hand in an order and return what will come of it; raises Throttled."""
    return _desk(name).submit(wanted)


def _desk(name: str) -> Desk:
    loop = asyncio.get_running_loop()
    office = _offices.get(loop)
    if office is None:
        office = _offices[loop] = _Office()
        lifespan.on_close(close)
    desk = office.desks.get(name)
    if desk is None:
        desk = office.desks[name] = Desk(loop, office, name)
    return desk


async def close() -> None:
    """Wait until every desk of this event loop has done what it was asked."""
    office = _offices.pop(asyncio.get_running_loop(), None)
    if office is None:
        return
    left = [future for desk in office.desks.values() for future in desk.open_orders()]
    if left:
        await asyncio.wait(left, timeout=CLOSE_SECONDS)


class Desk:
    """The orders of one queue in one event loop, on their way into a pass."""

    def __init__(self, loop: asyncio.AbstractEventLoop, office: _Office, name: str) -> None:
        self._loop = loop
        self._office = office
        self._name = name
        self._waiting: dict[Order, asyncio.Future[Outcome]] = {}
        # Claims in a coalescing window.
        self._filed: dict[Claim, asyncio.Future[Outcome]] = {}
        self._pass: asyncio.Task[None] | None = None
        self._group: dict[Order, asyncio.Future[Outcome]] = {}
        self._scheduled = False

    def submit(self, order: Order) -> asyncio.Future[Outcome]:
        """Take an order into the next pass; raises Throttled."""
        if len(self._waiting) + len(self._filed) >= _MOST_WAITING:
            raise Throttled(
                "too much waits for this queue", limit="waiting_orders", max=_MOST_WAITING
            )
        return self._take_in(order)

    def give_back(self, node: bytes, jobs: Sequence[Leased]) -> None:
        """Take the return of leased jobs into the next pass."""
        nack = Nack(node, [job.seq for job in jobs], [job.lease for job in jobs])
        self._take_in(nack).add_done_callback(_given_back)

    def _take_in(self, order: Order) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiting[order] = future
        self._start_soon()
        return future

    def open_orders(self) -> list[asyncio.Future[Outcome]]:
        """Return what has not been answered yet."""
        orders = (*self._waiting.values(), *self._filed.values(), *self._group.values())
        return [future for future in orders if not future.done()]

    def _start_soon(self) -> None:
        if self._pass is None and not self._scheduled:
            # Not at once: whatever else this turn of the loop brings comes along.
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        if self._pass is not None:
            return
        if not self._waiting:
            if not self._filed:
                self._office.desks.pop(self._name, None)
            return
        verdicts = 0
        for order, future in list(self._waiting.items()):
            if isinstance(order, Claim) and future.done():
                if order.ticket is None:
                    del self._waiting[order]
                    continue
                order.is_withdrawn = True
            if isinstance(order, Verdict):
                verdicts += len(order.seqs)
                if self._group and verdicts > _VERDICTS_PER_PASS:
                    break
            self._group[order] = future
            del self._waiting[order]
        self._pass = self._loop.create_task(self._work(), name=f"queue {self._name}")
        self._pass.add_done_callback(self._finished)

    def _finished(self, _: asyncio.Task[None]) -> None:
        self._pass = None
        self._group = {}
        self._start()

    async def _work(self) -> None:
        group = self._group
        try:
            async with self._office.places:
                outcomes, effects = await passes.carry_out(self._name, list(group))
        except (GyozaError, psycopg.Error) as exc:
            self._fail(exc)
        except Exception as exc:
            log.exception("a pass over the queue %s failed", self._name)
            self._fail(exc)
        else:
            self._tell(effects)
            self._answer(outcomes)

    def _fail(self, exc: Exception) -> None:
        # ★38: one pass, one answer.
        for order, future in self._group.items():
            if not future.done():
                future.set_exception(exc)
            # A topic that is gone has taken its windows along.
            if isinstance(order, Claim) and not isinstance(exc, GyozaError):
                self._withdraw(order, future)

    def _withdraw(self, order: Claim, future: asyncio.Future[Outcome]) -> None:
        """Have a failed claim leave its window, else others deal jobs to it; until its ticket is stale for everybody."""
        if (
            order.ticket is not None
            and self._loop.time() - order.filed_at < windows.STALE_MS / 1000
        ):
            self._file(order, future, _WITHDRAW_SECONDS)

    def _answer(self, outcomes: dict[Order, Outcome]) -> None:
        for order, future in self._group.items():
            outcome = outcomes.get(order)
            if outcome is None:
                # This pass was full.
                self._waiting[order] = future
            elif isinstance(outcome, Filed) and isinstance(order, Claim):
                order.ticket, order.filed_at = outcome.ticket, self._loop.time()
                self._file(order, future, outcome.wait_ms / 1000)
                future.add_done_callback(partial(self._look_who_left, order))
            elif not future.done():
                future.set_result(outcome)
            elif isinstance(order, Claim) and isinstance(outcome, Claimed) and outcome.jobs:
                # Nobody is there to take them.
                self.give_back(order.node, outcome.jobs)

    def _file(self, order: Claim, future: asyncio.Future[Outcome], seconds: float) -> None:
        self._filed[order] = future
        self._loop.call_later(seconds, self._end_window, order)

    def _end_window(self, order: Claim) -> None:
        if (future := self._filed.pop(order, None)) is not None:
            self._waiting[order] = future
            self._start_soon()

    def _look_who_left(self, order: Claim, future: asyncio.Future[Outcome]) -> None:
        if future.cancelled():
            self._end_window(order)

    def _tell(self, effects: Effects) -> None:
        channels = [names.channel(topic) for topic in effects.appended]
        if effects.is_news:
            channels.append(channel(self._name))
        if channels:
            wakeups.announce_soon(*channels)
        listeners.wake(effects.listened_to)


def _given_back(done: asyncio.Future[Outcome]) -> None:
    # A queue that is gone has taken its leases along.
    if not done.cancelled() and isinstance(exc := done.exception(), psycopg.Error):
        log.warning("leases that nobody holds end by themselves: %s", exc)
