"""A log is read once for all streams; none of them misses, repeats or reorders an event, whenever it comes and goes."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from apps.core.sse import frames, relay, relayed
from apps.core.sse.relayed import Start, Terms, follow_log
from tests import aio
from tests.fakes.memory_log import MemoryLog

if TYPE_CHECKING:
    from redis import Redis

RACES = 10_000
AT_ONCE = 50
ALL_TERMINAL = b": end reason=all_terminal\n\n"


@pytest.fixture(autouse=True)
def _bus(redis: Redis) -> None:
    """Let wake-ups be heard: nobody looks again every second."""


def follow(log: MemoryLog, *channels: str, after: int = 0, seen: int | None = None, **terms: Any):
    start = Start(after, after if seen is None else seen)
    wanted = Terms(frozenset(channels), terms.pop("wants", lambda _: True), **terms)
    return follow_log(log, start, wanted, opening=b"")


async def heard(log: MemoryLog, *channels: str, **options: Any) -> tuple[list[int], bytes]:
    """Return the ids that a stream tells, and how it ends."""
    async with aclosing(follow(log, *channels, **options)) as stream:
        told = b"".join([part async for part in stream])
    body, _, end = told.partition(b": ")
    return [int(one) for one in body.split(b";") if one], b": " + end


def test_the_last_write_before_the_end_is_never_lost():
    chance = random.Random(7)

    async def race(log: MemoryLog, channel: str) -> None:
        for _ in range(chance.randrange(3)):
            log.write(channel, "other")
        after = chance.randrange(len(log.events) + 1)

        async def write() -> None:
            for _ in range(chance.randrange(4)):
                await log.pause()
                log.write(channel, is_heard=chance.random() < 0.5)
            await log.pause()
            # The last one: nobody hears of it but by the end.
            log.write(channel, is_heard=chance.random() < 0.3)
            if chance.random() < 0.5:
                await log.pause()
            log.close(channel)

        (ids, end), _ = await asyncio.gather(heard(log, channel, after=after), write())
        assert (ids, end) == (log.ids_of(channel, after=after), ALL_TERMINAL)

    async def scene() -> None:
        for _ in range(0, RACES, AT_ONCE):
            log = MemoryLog(chance)
            await asyncio.gather(*(race(log, f"c{number}") for number in range(AT_ONCE)))
        await relay.close()

    aio.run(scene())


def test_streams_of_several_channels_come_and_go_and_tell_all_in_order():
    chance = random.Random(11)
    channels = [f"c{number}" for number in range(6)]

    async def client(log: MemoryLog, mine: list[str]) -> None:
        """Come back with the last id until the end, leaving at any moment."""
        ids: list[int] = []
        while True:
            last = ids[-1] if ids else 0
            # From anywhere before what was seen, as after a search that isn't exact.
            after = max(last - chance.randrange(5), 0)
            async with aclosing(follow(log, *mine, after=after, seen=last)) as stream:
                async for part in stream:
                    body, colon, end = part.partition(b": ")
                    ids += [int(one) for one in body.split(b";") if one]
                    if colon:
                        assert (colon + end, ids) == (ALL_TERMINAL, log.ids_of(*mine))
                        return
                    if chance.random() < 0.3:
                        break

    async def write(log: MemoryLog) -> None:
        for _ in range(400):
            log.write(*chance.choices(channels, k=chance.randrange(1, 4)))
            await log.pause()
        for channel in channels:
            log.write(channel)
            log.close(channel)
            await log.pause()

    async def scene() -> None:
        log = MemoryLog(chance)
        clients = [
            client(log, chance.sample(channels, k=chance.randrange(1, 4))) for _ in range(60)
        ]
        await asyncio.gather(write(log), *clients)
        await relay.close()

    aio.run(scene())


def test_one_read_serves_five_hundred():
    async def scene() -> None:
        log = MemoryLog()
        streams = [follow(log, "a", after=0) for _ in range(500)]
        tasks = [asyncio.create_task(_ids(stream, 20)) for stream in streams]
        while not all(map(log_is_joined, [log])) or len(relay.of(log)._listeners["a"]) < 500:
            await asyncio.sleep(0)
        before = log.reads
        for _ in range(20):
            log.write("a")
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [log.ids_of("a")] * 500
        assert log.reads - before <= 2 * 20
        await relay.close()

    aio.run(scene())


def log_is_joined(log: MemoryLog) -> bool:
    return bool(relay.of(log)._listeners)


async def _ids(stream: Any, count: int) -> list[int]:
    ids: list[int] = []
    async with aclosing(stream):
        async for part in stream:
            ids += [int(one) for one in part.split(b";") if one]
            if len(ids) >= count:
                return ids
    return ids


def test_a_client_that_takes_nothing_is_given_up_and_comes_back_with_its_id():
    async def scene() -> None:
        log = MemoryLog()
        async with aclosing(follow(log, "a")) as stream:
            assert await anext(stream) == b""
            log.write("a")
            assert await anext(stream) == b"1;"
            waiting = follow(log, "a")
            assert await anext(waiting) == b""
            log.write(*["a"] * (relayed.MOST_WAITING + 1))
            # Somebody else has had all of it by now.
            others = await _ids(waiting, relayed.MOST_WAITING + 2)
            assert others == log.ids_of("a")
            assert await anext(stream) == b": end reason=slow_consumer\n\n"
            assert [part async for part in stream] == []
        log.close("a")
        ids, end = await heard(log, "a", after=1)
        assert ([1, *ids], end) == (log.ids_of("a"), ALL_TERMINAL)
        await relay.close()

    aio.run(scene())


def test_what_a_stream_does_not_want_does_not_fill_its_queue():
    async def scene() -> None:
        log = MemoryLog()
        async with aclosing(follow(log, "a", wants=lambda event: event.id < 3)) as stream:
            await anext(stream)
            log.write(*["a"] * (2 * relayed.MOST_WAITING))
            log.close("a")
            assert b"".join([part async for part in stream]) == b"1;2;" + ALL_TERMINAL
        await relay.close()

    aio.run(scene())


def test_a_log_that_began_anew_is_read_from_its_beginning():
    """A topic that was deleted and made again: positions start over, ids go on."""

    async def scene() -> None:
        log = MemoryLog()
        log.write(*["a"] * 5)
        async with aclosing(follow(log, "a", after=5)) as stream:
            await anext(stream)
            task = asyncio.create_task(_ids(stream, 1))
            while not log_is_joined(log):
                await asyncio.sleep(0)
            relay.of(log)._position = 2
            log.write("a")
            assert await task == [6]
        await relay.close()

    aio.run(scene())


def test_a_fault_of_the_log_ends_the_streams_with_it():
    class Broken(MemoryLog):
        async def ended(self, channels: Any) -> Any:
            raise KeyError("nobody foresaw this")

    async def scene() -> None:
        log = Broken()
        with pytest.raises(KeyError):
            await heard(log, "a")
        await relay.close()

    aio.run(scene())


def test_postgres_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relay, "BLIND_SECONDS", 0)

    class Shaky(MemoryLog):
        is_away = False
        failures = 0

        async def ended(self, channels: Any) -> Any:
            if self.is_away:
                self.failures += 1
                raise psycopg.OperationalError("away")
            return await super().ended(channels)

    async def scene() -> None:
        log = Shaky()
        stream = asyncio.create_task(heard(log, "a"))
        while not log_is_joined(log):
            await asyncio.sleep(0)
        log.is_away = True
        log.write("a", "a")
        log.close("a")
        while not log.failures:
            await asyncio.sleep(0)
        log.write("b")
        log.is_away = False
        assert await stream == ([1, 2], ALL_TERMINAL)
        await relay.close()

    aio.run(scene())


def test_a_stream_whose_past_cannot_be_read_says_so():
    class Away(MemoryLog):
        async def read(self, *args: Any) -> Any:
            raise psycopg.OperationalError("away")

    async def scene() -> None:
        async with aclosing(follow(Away(), "a")) as stream:
            told = b"".join([part async for part in stream])
        assert told == frames.database_away()
        await relay.close()

    aio.run(scene())


def test_when_the_last_stream_has_gone_nothing_is_read():
    async def scene() -> None:
        log = MemoryLog()
        log.close("a")
        assert await heard(log, "a") == ([], ALL_TERMINAL)
        while len(asyncio.all_tasks()) > 1 and any(
            task.get_name().startswith("relay") for task in asyncio.all_tasks()
        ):
            await asyncio.sleep(0)
        reads = log.reads
        log.write("a")
        await asyncio.sleep(0)
        assert log.reads == reads

    aio.run(scene())
