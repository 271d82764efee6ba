"""Watchers of one process share what they read."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from apps.core import asyncdb
from apps.core.sse import hub, wakeups
from apps.core.sse.bell import Bell
from apps.core.threads import in_thread
from apps.topics import queries
from apps.topics.models import Topic
from apps.topics.services import NewEvent, append_events
from apps.topics.watch import pages
from apps.topics.watch.following import Follower
from apps.topics.watch.positions import Position
from apps.topics.watch.readings import Selection
from tests.integration.topics.pushing import run

if TYPE_CHECKING:
    from apps.topics.keeping.retention import Gap
    from apps.topics.queries import JsonPage
    from apps.topics.watch.readings import Reading

pytestmark = pytest.mark.django_db(transaction=True)

WANTED = Selection(limit=100, budget=100_000)


def write(topic: str, *data: int) -> None:
    append_events([NewEvent(topic, str(one)) for one in data])


class Heard:
    """A dialect that notes what was told, and by which read."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.told: list[Any] = []

    def records(self, name: str, reading: Reading, page: JsonPage, from_seq: int) -> bytes:
        self.readings.append(reading)
        self.told.append((name, from_seq, page.next_after))
        return b"."

    def lost(self, name: str, gap: Gap, *, is_first: bool) -> bytes:
        self.told.append((name, gap.reason))
        return b"."

    def caught_up(self, name: str, reading: Reading, head: int) -> bytes:
        self.told.append((name, "caught up", head))
        return b"."

    def deleted(self, name: str, head: int) -> bytes:
        self.told.append((name, "deleted", head))
        return b"."


class Listener(Follower):
    """A follower with its bell."""

    def __init__(self, heard: Heard) -> None:
        self.bell = Bell()
        super().__init__(heard, self.bell)

    def close(self) -> None:
        super().close()
        self.bell.close()


async def hear(follower: Listener, heard: Heard, count: int) -> None:
    """Return when so much has been told."""
    while len(heard.told) < count:
        await follower.bell.wait(30)
        await drain(follower)


async def drain(follower: Follower) -> None:
    while (await follower.read()).has_more:
        pass


def test_a_hundred_watchers_at_the_end_cost_one_query_per_wake_up():
    write("t", 1)
    topic_id = Topic.objects.get().pk

    async def scene() -> list[Heard]:
        with ExitStack() as stack:
            listeners = []
            for _ in range(100):
                heard = Heard()
                follower = stack.enter_context(closing(Listener(heard)))
                follower.add({"t": Position(topic_id, 1)}, WANTED)
                listeners.append((follower, heard))
            await asyncio.gather(*(hear(*one, 1) for one in listeners))
            for number in (2, 3):
                await in_thread(write, "t", number)
                await asyncio.gather(*(hear(*one, 2 * number - 1) for one in listeners))
            return [heard for _, heard in listeners]

    heard = run(scene())
    expected = [("t", "caught up", 1)]
    for number in (2, 3):
        expected += [("t", number - 1, number), ("t", "caught up", number)]  # type: ignore[list-item]
    assert all(one.told == expected for one in heard)
    for step in range(2):
        assert len({id(one.readings[step]) for one in heard}) == 1


def test_who_is_stopped_while_it_reads_takes_nothing_from_its_successor():
    """Both have the session's positions."""
    write("t", 1)
    position, heard = Position(Topic.objects.get().pk, 0), Heard()

    async def scene() -> bool:
        with closing(Listener(heard)) as ended:
            ended.add({"t": position}, WANTED)
            reading = asyncio.create_task(ended.read())
            await asyncio.sleep(0)
            ended.stop()
            return (await reading).is_over

    assert run(scene())
    assert (heard.told, position.seq) == ([], 0)


def test_watchers_who_want_something_else_read_for_themselves():
    write("t", 1, 2)
    topic_id = Topic.objects.get().pk

    async def scene() -> list[Heard]:
        listeners = []
        with ExitStack() as stack:
            for selection in (WANTED, Selection(limit=1, budget=1000), WANTED):
                heard = Heard()
                follower = stack.enter_context(closing(Listener(heard)))
                follower.add({"t": Position(topic_id, 0)}, selection)
                listeners.append((follower, heard))
            await asyncio.gather(*(drain(follower) for follower, _ in listeners))
        return [heard for _, heard in listeners]

    first, single, second = run(scene())
    assert first.readings[0] is second.readings[0]
    assert first.told == [("t", 0, 2), ("t", "caught up", 2)]
    assert single.told == [("t", 0, 1), ("t", 1, 2), ("t", "caught up", 2)]


def test_what_comes_while_a_read_is_under_way_is_not_missed():
    write("t", 1)
    topic_id = Topic.objects.get().pk

    async def scene() -> list[Any]:
        heard = Heard()
        with closing(Listener(heard)) as follower:
            follower.add({"t": Position(topic_id, 1)}, WANTED)
            reading = asyncio.create_task(drain(follower))
            await asyncio.sleep(0)
            # The read has been started; this is committed before or after its snapshot.
            await in_thread(write, "t", 2)
            await reading
            while heard.told[-1] != ("t", "caught up", 2):
                await hear(follower, heard, len(heard.told) + 1)
        return heard.told

    assert run(scene())[-2:] == [("t", 1, 2), ("t", "caught up", 2)]


def test_a_lost_wake_up_is_made_good_by_the_poll(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(pages, "BLIND_SECONDS", 0.01)
    write("t", 1)
    topic_id = Topic.objects.get().pk

    async def scene() -> list[Any]:
        heard = Heard()
        with closing(Listener(heard)) as follower:
            follower.add({"t": Position(topic_id, 1)}, WANTED)
            await drain(follower)
            monkeypatch.setattr(wakeups, "announce", lambda channels: None)
            await in_thread(write, "t", 2)
            await hear(follower, heard, 2)
            await in_thread(Topic.objects.all().delete)
            await hear(follower, heard, 4)
        return heard.told

    assert run(scene()) == [
        ("t", "caught up", 1),
        ("t", 1, 2),
        ("t", "caught up", 2),
        ("t", "deleted", 2),
    ]


def test_no_connection_is_held_while_waiting():
    write("t", 1)
    topic_id = Topic.objects.get().pk

    async def scene() -> int:
        with closing(Listener(Heard())) as follower:
            follower.add({"t": Position(topic_id, 0)}, WANTED)
            await drain(follower)
            waiting = asyncio.create_task(follower.bell.wait(30))
            await asyncio.sleep(0)
            pool = asyncdb._pools[asyncio.get_running_loop()]
            # One that is being made is not there yet.
            while (stats := pool.get_stats())["pool_available"] < stats["pool_size"]:
                await asyncio.sleep(0)
            waiting.cancel()
            return stats["pool_size"]

    assert run(scene()) > 0


def test_the_last_watcher_takes_the_tail_with_it():
    write("t", 1)
    topic_id = Topic.objects.get().pk

    async def scene() -> bool:
        with closing(Listener(Heard())) as follower:
            follower.add({"t": Position(topic_id, 0)}, WANTED)
            await drain(follower)
            assert queries.channel("t") in hub.current()._waiters
        return queries.channel("t") in hub.current()._waiters

    assert run(scene()) is False


def test_a_busy_topic_lets_others_have_their_turn():
    write("a", *range(100))
    write("b", 1)
    ids = dict(Topic.objects.values_list("name", "pk"))

    async def scene() -> list[Any]:
        heard = Heard()
        with closing(Listener(heard)) as follower:
            one = Selection(limit=1, budget=1000)
            follower.add({name: Position(pk, 0) for name, pk in ids.items()}, one)
            await drain(follower)
        return [told[0] for told in heard.told]

    told = run(scene())
    assert told[:20] == ["a"] * 16 + ["b", "b", "a", "a"]
    assert len(told) == 101 + 2


def test_what_goes_wrong_in_a_shared_read_is_told_to_each_sharer():
    write("t", 1)
    topic_id = Topic.objects.get().pk

    async def scene() -> list[type]:
        with ExitStack() as stack:
            followers = []
            for _ in range(3):
                follower = stack.enter_context(closing(Listener(Heard())))
                follower.add({"t": Position(topic_id, 0)}, Selection(limit=-1, budget=1))
                followers.append(follower)
            found = await asyncio.gather(*map(drain, followers), return_exceptions=True)
        return [type(one) for one in found]

    [first, second, third] = run(scene())
    assert first is second is third is not type(None)


@pytest.mark.parametrize("seed", range(3))
def test_each_of_many_watchers_hears_everything_once_whatever_their_pace(seed: int):
    chance = random.Random(seed)
    write("t", 0)
    topic_id = Topic.objects.get().pk
    count, last = 30, 80

    async def watch(listener: Listener, heard: Heard) -> None:
        while not heard.told or heard.told[-1][-1] != last:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            await hear(listener, heard, len(heard.told) + 1)

    async def scene() -> list[Any]:
        with ExitStack() as stack:
            listeners = []
            for _ in range(count):
                heard = Heard()
                listener = stack.enter_context(closing(Listener(heard)))
                limit = chance.choice([3, 100])
                listener.add({"t": Position(topic_id, 0)}, Selection(limit=limit, budget=100_000))
                listeners.append((listener, heard))
            watching = [asyncio.create_task(watch(*one)) for one in listeners]
            for number in range(2, last + 1):
                await in_thread(write, "t", number)
            async with asyncio.timeout(60):
                await asyncio.gather(*watching)
        return [heard.told for _, heard in listeners]

    for told in run(scene()):
        pages_told = [(one[1], one[2]) for one in told if one[1] != "caught up"]
        assert pages_told[0][0] == 0
        assert pages_told[-1][1] == last
        assert all(a[1] == b[0] for a, b in itertools.pairwise(pages_told))
