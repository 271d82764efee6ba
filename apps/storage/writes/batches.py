"""Group commit: calls that arrive while one is under way go together into the next; one is under way at a time.

A batch waits for calls that are about to come, if their callers have said so, and no longer than it may. Else the first
starts at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import contextmanager
from contextvars import Context
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from typing import TypeAlias

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

if TYPE_CHECKING:
    Work: TypeAlias = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]


class Batches(Generic[T, R]):
    """Calls of a function of many, each in the event loop it comes from.

    `work` says of each item what it came to, or returns what is to be raised for it.
    """

    def __init__(self, work: Work[T, R], *, most: int, patience: float = 0) -> None:
        self._work = work
        self._most = most
        self._patience = patience
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line[T, R]] = WeakKeyDictionary()

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Say that a call comes when this ends, if nothing is in its way: a batch that would begin now waits for it."""
        line = self._line()
        line.expect(1)
        try:
            yield
        finally:
            line.expect(-1)

    async def call(self, item: T) -> R:
        """Return what came of an item; if the caller is cancelled, it is worked on all the same."""
        return await self._line().submit(item)

    def _line(self) -> _Line[T, R]:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line(self._work, self._most, self._patience)
        return line


class _Line(Generic[T, R]):
    def __init__(self, work: Work[T, R], most: int, patience: float) -> None:
        self._work = work
        self._most = most
        self._patience = patience
        self._expected = 0
        self._all_here: asyncio.Future[None] | None = None
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._under_way: asyncio.Task[None] | None = None

    def expect(self, more: int) -> None:
        self._expected += more
        if not self._expected:
            self._go_on()

    def submit(self, item: T) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if self._under_way is None:
            # A task begins with the next turn of the loop: whatever else this one brings comes along. What it does
            # belongs to no request more than to another.
            self._under_way = loop.create_task(self._run(), context=Context())
        return future

    async def _run(self) -> None:
        try:
            while self._waiting:
                if self._expected:
                    await self._wait_for_all()
                batch = list(islice(self._waiting, self._most))
                for _ in batch:
                    self._waiting.popleft()
                await self._work_on(batch)
        finally:
            self._under_way = None

    async def _wait_for_all(self) -> None:
        loop = asyncio.get_running_loop()
        self._all_here = loop.create_future()
        timer = loop.call_later(self._patience, self._go_on)
        try:
            await self._all_here
        finally:
            timer.cancel()
            self._all_here = None

    def _go_on(self) -> None:
        if self._all_here is not None and not self._all_here.done():
            self._all_here.set_result(None)

    async def _work_on(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        outcomes: Sequence[R | Exception]
        try:
            outcomes = await self._work([item for item, _ in batch])
        except Exception as exc:
            log.warning("%d writes failed together: %r", len(batch), exc)
            outcomes = [exc] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
