"""The loop of every stream, and how many may be open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from apps.core.errors import Throttled
from apps.core.sse import connections
from apps.core.sse.outlet import Outlet
from apps.core.sse.stream import Step, StreamResponse, follow_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Silence:
    """News that come, or don't, as a test says."""

    def __init__(self, *arrivals: bool) -> None:
        self._arrivals = list(arrivals)
        self.asked: list[float] = []
        self.steps: list[Step] = []
        self.is_closed = False

    async def open(self) -> Callable[[], Awaitable[Step]]:
        return self._read

    def close(self) -> None:
        self.is_closed = True

    def farewell(self) -> bytes:
        return b"bye"

    async def _read(self) -> Step:
        return self.steps.pop(0)

    async def wait(self, timeout: float) -> bool:
        self.asked.append(timeout)
        if self._arrivals.pop(0):
            return True
        await asyncio.sleep(timeout)
        return False


def heard(news: Silence, *steps: Step, heartbeat: float = 0.01) -> list[bytes]:
    news.steps = list(steps)

    async def scene() -> list[bytes]:
        return [part async for part in follow_source(news, heartbeat=heartbeat)]

    parts = asyncio.run(scene())
    assert news.is_closed
    return parts


def test_the_frames_of_a_step_go_out_in_one_piece():
    over = Step([b"c"], is_over=True)
    assert heard(Silence(), Step([b"a", b"b"], has_more=True), over) == [
        b"retry: 2000\n\n",
        b"ab",
        b"c",
    ]


def test_a_heartbeat_comes_when_nothing_was_sent_for_so_long():
    news = Silence(False, False)
    parts = heard(news, Step([]), Step([]), Step([], is_over=True))
    assert parts == [b"retry: 2000\n\n", b": hb\n\n", b": hb\n\n"]
    assert all(0 < asked <= 0.01 for asked in news.asked)


def test_news_that_bring_no_frame_do_not_put_the_heartbeat_off():
    """Records that a filter hides wake a stream as often as others."""
    news = Silence(True, True, False)
    parts = heard(news, Step([]), Step([]), Step([]), Step([], is_over=True))
    assert parts == [b"retry: 2000\n\n", b": hb\n\n"]
    assert news.asked == sorted(news.asked, reverse=True)


def test_what_is_pushed_puts_the_heartbeat_off():
    outlet = Outlet()
    outlet.open(lambda part: True)

    class Pushing(Silence):
        async def wait(self, timeout: float) -> bool:
            news = await super().wait(timeout)
            # At the last moment, the first time.
            if len(self.asked) == 1:
                assert outlet.push(b"data: 1\n\n")
            return news

    news = Pushing(False, False)
    news.steps = [Step([]), Step([]), Step([], is_over=True)]

    async def scene() -> list[bytes]:
        return [part async for part in follow_source(news, heartbeat=0.01, outlet=outlet)]

    assert asyncio.run(scene()) == [b"retry: 2000\n\n", b": hb\n\n"]


async def _frames() -> AsyncIterator[bytes]:
    yield b"."


def response(**options: Any) -> StreamResponse:
    return StreamResponse(_frames(), **options)


def test_a_cap_admits_exactly_so_many(settings: Any):
    settings.GYOZA_MAX_STREAMS = 2
    first, second = response(), response()
    connections.admit(first, None)
    connections.admit(second, uuid4())
    with pytest.raises(Throttled) as refusal:
        connections.admit(response(), None)
    assert refusal.value.detail == {"limit": "max_sse_connections", "max": 2}
    first.release()
    first.release()  # giving back twice frees one slot
    assert connections.count() == 1
    with connections.held(None), pytest.raises(Throttled), connections.held(None):
        pass
    second.close()
    assert connections.count() == 0


def test_zero_is_no_cap(settings: Any):
    settings.GYOZA_MAX_STREAMS = settings.GYOZA_MAX_STREAMS_PER_KEY = 0
    key = uuid4()
    opened = [response() for _ in range(50)]
    for one in opened:
        connections.admit(one, key)
    assert connections.count() == 50
    for one in opened:
        one.release()


def test_a_cap_per_key_leaves_others_alone(settings: Any):
    settings.GYOZA_MAX_STREAMS_PER_KEY = 1
    mine, yours = uuid4(), uuid4()
    with connections.held(mine), connections.held(yours), connections.held(None):
        with connections.held(None), pytest.raises(Throttled) as refusal, connections.held(mine):
            pass
        assert refusal.value.detail == {"limit": "max_sse_connections_per_key", "max": 1}
    assert connections.count() == 0
