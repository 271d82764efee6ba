"""Frames that are written for a stream while its task waits for news."""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from apps.core import lifespan
from apps.core.sse import hub
from apps.core.sse.bell import Bell
from apps.core.sse.outlet import Outlet
from apps.core.sse.stream import Step, follow_source
from apps.core.threads import in_thread
from apps.topics import groupcommit, services, touches
from apps.topics.models import Topic
from apps.topics.services import NewEvent, append_events
from apps.topics.watch import pages
from apps.topics.watch.following import Follower
from apps.topics.watch.frames import Frames
from apps.topics.watch.pages import Selection
from apps.topics.watch.positions import Position
from tests import aio
from tests.integration.topics.appending import make_append

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

pytestmark = pytest.mark.django_db(transaction=True)

WANTED = Selection(limit=100, budget=100_000)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    services.forget()
    yield
    services.forget()


def write(topic: str, *data: str) -> None:
    append_events([NewEvent(topic, one) for one in data])


def delete(topic: str) -> None:
    services.delete_topic(topic=topic, caller="test")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def scene() -> Any:
        try:
            return await work
        finally:
            await pages.close()
            await touches.close()

    return aio.run(scene())


class Stream:
    """A stream of one topic, with a client that may be behind."""

    def __init__(self, positions: dict[str, Position], wanted: Selection = WANTED) -> None:
        self._positions, self._wanted = positions, wanted
        self.outlet = Outlet()
        self.bell = Bell()
        self.wait = self.bell.wait
        self.is_behind = False
        self.pushed: list[bytes] = []
        # Everything, in the order in which the client gets it.
        self.sent = b""

    async def open(self) -> Callable[[], Awaitable[Step]]:
        self._follower = Follower(Frames(self._positions), self.bell, outlet=self.outlet)
        self._follower.add(self._positions, self._wanted)
        self.outlet.open(self._push)
        return self._follower.read

    def close(self) -> None:
        self._follower.close()
        self.bell.close()

    def farewell(self) -> bytes:
        return b"bye"

    def _push(self, part: bytes) -> bool:
        assert self.bell.is_waited_for
        if self.is_behind:
            return False
        self.pushed.append(part)
        self.sent += part
        return True

    async def run(self) -> None:
        async for part in follow_source(self, outlet=self.outlet):
            self.sent += part

    async def until(self, words: bytes) -> None:
        """Return when these bytes have been sent and the task sleeps again."""
        while not (words in self.sent and self.bell.is_waited_for):
            await asyncio.sleep(0)


@asynccontextmanager
async def opened(*positions: dict[str, Position], **options: Any) -> AsyncIterator[list[Stream]]:
    """Open streams, each with positions, that are caught up."""
    streams = [Stream(given, **options) for given in positions]
    tasks = [asyncio.create_task(stream.run()) for stream in streams]
    try:
        for stream in streams:
            await stream.until(b"caught-up")
        while not hub.current().hears:
            await asyncio.sleep(0)
        yield streams
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def position(topic: str = "t", seq: int = 1) -> dict[str, Position]:
    return {topic: Position(Topic.objects.get(name=topic).pk, seq)}


def records(stream: Stream) -> list[int]:
    """Return the seqs of the records that the client got, as it got them."""
    return [int(found) for found in re.findall(rb'"\$seq":(\d+)', stream.sent)]


def test_records_are_pushed_while_the_task_sleeps():
    write("t", "10")
    where = [position() for _ in range(3)]

    async def scene() -> None:
        async with opened(*where) as streams:
            for data in ("11", "12"):
                await in_thread(write, "t", data)
                for stream in streams:
                    await stream.until(data.encode())
            for stream in streams:
                assert b"".join(stream.pushed).count(b"event: record") == 2
                assert stream.pushed[-1].endswith(b"\n\n")

    run(scene())


def test_what_the_client_does_not_take_at_once_is_told_by_the_task():
    write("t", "10")
    where = [position() for _ in range(2)]

    async def scene() -> None:
        async with opened(*where) as (slow, other):
            slow.is_behind = True
            await in_thread(write, "t", "11", "12")
            await slow.until(b'"$seq":3')
            assert not slow.pushed
            slow.is_behind = False
            await in_thread(write, "t", "13")
            for stream in (slow, other):
                await stream.until(b'"$seq":4')
                assert records(stream) == [2, 3, 4]
            assert len(slow.pushed) == 1

    run(scene())


def test_streams_of_one_session_divide_the_records():
    write("t", "10")
    shared = position()

    async def scene() -> None:
        async with opened(shared, shared) as streams:
            for number in range(20):
                await in_thread(write, "t", str(number))
                while shared["t"].seq < number + 2:
                    await asyncio.sleep(0)
            got = sorted(seq for stream in streams for seq in records(stream))
            assert got == list(range(2, 22))

    run(scene())


def test_what_does_not_fit_into_a_page_follows():
    write("t", "10")

    async def scene() -> None:
        async with opened(position_now, wanted=Selection(limit=2, budget=100_000)) as [stream]:
            await in_thread(write, "t", *map(str, range(9)))
            await stream.until(b'"$seq":10')
            assert records(stream) == list(range(2, 11))

    position_now = position()
    run(scene())


def test_long_frames_go_by_the_task_that_waits_for_the_client():
    write("t", "10")
    where = position()

    async def scene() -> None:
        async with opened(where) as [stream]:
            await in_thread(write, "t", '"%s"' % ("x" * 70_000))
            await stream.until(b"x" * 70_000)
            assert not stream.pushed
            assert records(stream) == [2]

    run(scene())


def test_a_topic_that_is_deleted_or_made_anew_is_told_by_the_task():
    write("t", "10")
    where = position()

    async def scene() -> None:
        async with opened(where) as [stream]:
            await in_thread(_recreate)
            await stream.until(b'"$seq":2')
            assert b'"reason":"recreated"' in stream.sent
            assert records(stream) == [1, 2]
            await in_thread(delete, "t")
            while b"topic-deleted" not in stream.sent:
                await asyncio.sleep(0)

    def _recreate() -> None:
        # Seen at once, so that it stands between two reads.
        with transaction.atomic():
            delete("t")
            write("t", "20", "21")

    run(scene())


def test_a_process_that_stops_pushes_nothing_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifespan, "_draining", False)  # as it shall be afterwards
    write("t", "10")
    where = position()

    async def scene() -> None:
        async with opened(where) as [stream]:
            await in_thread(write, "t", "11")
            await stream.until(b'"$seq":2')
            lifespan.drain()
            while not stream.sent.endswith(b"bye"):
                await asyncio.sleep(0)

    run(scene())


def test_however_fast_they_are_written_each_is_told_once_in_order():
    """Some of the clients are behind now and then, at random."""
    write("t", "10")
    where = [position() for _ in range(8)]
    chance = random.Random(5)

    async def scene() -> None:
        async with opened(*where) as streams:
            for number in range(1, 201):
                await groupcommit.write(make_append("t"))
                for stream in streams:
                    stream.is_behind = chance.random() < 0.3
                if number % 10 == 0:
                    await streams[0].until(b'"$seq":%d,' % (number + 1))
            for stream in streams:
                await stream.until(b'"$seq":201,')
                assert records(stream) == list(range(2, 202))
                assert stream.pushed

    run(scene())
