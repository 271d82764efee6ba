"""Who forwards, and when: a process at once after an append, one task per source; others by a nudge; the sweep for the rest."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import psycopg

from apps.core import lifespan, queue, sql, threads
from apps.topics.appending.listeners import Listener
from apps.topics.routers import forwarding

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

log = logging.getLogger(__name__)

# Routers of one process that forward at a time; the pool has connections for more than these and the group commit.
_AT_ONCE = 3

_forwarders: WeakKeyDictionary[asyncio.AbstractEventLoop, Forwarder] = WeakKeyDictionary()


def wake(topics: Collection[str]) -> None:
    """Forward what topics have got, soon; from the event loop."""
    loop = asyncio.get_running_loop()
    forwarder = _forwarders.get(loop)
    if forwarder is None:
        forwarder = _forwarders[loop] = Forwarder()
        lifespan.on_close(close)
    forwarder.wake(topics)


async def idle() -> None:
    """Wait until nothing is being forwarded, what follows from it included."""
    forwarder = _forwarders.get(asyncio.get_running_loop())
    if forwarder is not None:
        await forwarder.idle()


async def close() -> None:
    """Stop; what is not forwarded yet is found by the sweep."""
    forwarder = _forwarders.pop(asyncio.get_running_loop(), None)
    if forwarder is not None:
        await forwarder.close()


def catch_up_now(dest: str) -> None:
    """Do as `forwarding.catch_up` from sync code."""
    if sql.run_bound("topics/routers/find_owed", name=dest).rows:
        threads.run_here(_to_the_end(forwarding.catch_up(dest)))


def sweep() -> None:
    """Forward all that is due, wherever a wake-up was lost."""
    sources = [row["name"] for row in sql.run_bound("topics/routers/find_behind").rows]
    if sources:
        threads.run_here(_to_the_end(_wake(sources)))


async def _wake(sources: Collection[str]) -> None:
    wake(sources)


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Do some work and what follows from it: copies may have listeners, too."""
    await work
    await idle()


LISTENER = Listener(
    wake=wake, nudge_on_commit=partial(queue.nudge_on_commit, "topics.sweep_routers")
)


class Forwarder:
    """What is being forwarded in one event loop, by source."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def wake(self, sources: Collection[str]) -> None:
        """Forward from these topics; from one that is being forwarded once more, whatever number of times it is woken."""
        for source in sources:
            if source in self._tasks:
                self._again.add(source)
            else:
                self._tasks[source] = asyncio.create_task(self._forward(source), name="router")

    async def idle(self) -> None:
        """Wait until there is nothing to do."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self) -> None:
        """Stop at the next statement."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _forward(self, source: str) -> None:
        try:
            while True:
                self._again.discard(source)
                due = await forwarding.due_from(source)
                await asyncio.gather(*(self._take_turn(router, until) for router, until in due))
                if source not in self._again:
                    return
        except psycopg.Error as exc:
            log.warning("copying from %s failed, the sweep will go on: %s", source, exc)
        finally:
            del self._tasks[source]

    async def _take_turn(self, router_id: int, until: int) -> None:
        async with self._turns:
            try:
                await forwarding.forward(router_id, until=until)
            except psycopg.Error as exc:
                # Its neighbours go on.
                log.warning("router %d failed, the sweep will go on: %s", router_id, exc)
