"""Frames that are written for a stream while its task waits for news."""

from __future__ import annotations

import asyncio
import random

import pytest
from django.db import transaction

from apps.core import lifespan
from apps.core.threads import in_thread
from apps.topics.appending import groupcommit
from apps.topics.watch.readings import Selection
from tests.integration.topics.appending import make_append
from tests.integration.topics.pushing import delete, opened, position, records, run, write

pytestmark = pytest.mark.django_db(transaction=True)


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
