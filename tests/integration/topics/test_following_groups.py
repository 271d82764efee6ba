"""A group that is sent behind another of the same topics, before that has ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connection

from apps.topics import services
from apps.topics.appending import groupcommit
from apps.topics.models import Event, Topic
from tests.aio import run
from tests.integration.topics.appending import held, make_append, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from apps.topics.appending.admission import Written

    Writing = asyncio.Task[Written]

pytestmark = pytest.mark.django_db(transaction=True)

ENOUGH = groupcommit._FOLLOWING_RECORDS


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    # A group is followed however slow this machine is today.
    monkeypatch.setattr(groupcommit, "_FOLLOWED_SECONDS", 60)


def begin(topic: str = "t", data: bytes = b"1", **over: Any) -> Writing:
    return asyncio.create_task(groupcommit.write(make_append(topic, data, **over)))


async def two_under_way(leader: Writing | None = None, **over: Any) -> tuple[Writing, Writing]:
    """Have one append wait for the topic that is held, and another be sent behind it."""
    first = leader or begin()
    await until(lambda: groupcommit.groups_under_way() == 1)
    second = begin(records=ENOUGH, **over)
    await until(lambda: groupcommit.groups_under_way() == 2)
    return first, second


def on_waiters(call: str) -> Callable[[int], list[int]]:
    """Return what calls a function of Postgres on who waits for a lock, if they are so many: on the first of them."""

    def ask(expected: int) -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' ORDER BY query_start"
            )
            found = [pid for (pid,) in cursor.fetchall()]
            if len(found) == expected:
                cursor.callproc(call, [found[0]])
        connection.close()
        return found

    return ask


def rows_of(topic: str) -> list[tuple[int, str]]:
    return list(
        Event.objects.filter(topic_id=Topic.objects.get(name=topic).pk)
        .order_by("seq")
        .values_list("seq", "data")
    )


def test_one_is_sent_behind_when_much_waits_and_no_more():
    services.ensure_topics(["t"])
    with held("t") as release:

        async def scene() -> list[Written]:
            writing = list(await two_under_way())
            writing.append(begin(records=ENOUGH))
            # Answered, so the third has had its chance.
            await groupcommit.write(make_append("other"))
            assert groupcommit.groups_under_way() == 2
            release.set()
            return await asyncio.gather(*writing)

        written = run(scene())
    spans = sorted((w.first_seq, w.last_seq) for w in written)
    assert spans[0][0] == 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(spans))
    assert [seq for seq, _ in rows_of("t")] == list(range(1, 2 * ENOUGH + 2))


def test_little_waits_until_the_group_has_ended():
    services.ensure_topics(["t"])
    with held("t") as release:

        async def scene() -> None:
            first = begin()
            await until(lambda: groupcommit.groups_under_way() == 1)
            second = begin(records=ENOUGH - 1)
            await groupcommit.write(make_append("other"))
            assert groupcommit.groups_under_way() == 1
            release.set()
            await asyncio.gather(first, second)

        run(scene())


def test_nothing_is_sent_behind_a_group_that_is_stuck(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groupcommit, "_FOLLOWED_SECONDS", 0)
    services.ensure_topics(["t"])
    with held("t") as release:

        async def scene() -> None:
            first = begin()
            await until(lambda: groupcommit.groups_under_way() == 1)
            second = begin(records=ENOUGH)
            await groupcommit.write(make_append("other"))
            assert groupcommit.groups_under_way() == 1
            release.set()
            await asyncio.gather(first, second)

        run(scene())


def test_other_topics_go_beside_both():
    services.ensure_topics(["t", "free"])
    with held("t") as release:

        async def scene() -> None:
            writing = await two_under_way()
            for expected in (1, 2, 3):
                assert (await groupcommit.write(make_append("free"))).first_seq == expected
            assert not any(one.done() for one in writing)
            release.set()
            await asyncio.gather(*writing)

        run(scene())


@pytest.mark.parametrize("call", ["pg_cancel_backend", "pg_terminate_backend"])
def test_when_the_first_fails_the_second_has_its_place(call: str):
    services.ensure_topics(["t"])
    end_first = on_waiters(call)
    with held("t") as release:

        async def scene() -> tuple[Any, ...]:
            first = begin()
            # It waits in Postgres before the second does.
            while len(await asyncio.to_thread(end_first, 2)) != 1:
                pass
            writing = await two_under_way(first)
            while len(await asyncio.to_thread(end_first, 2)) != 2:
                pass
            await until(writing[0].done)
            last = begin(data=b"3", records=ENOUGH)
            release.set()
            return await asyncio.gather(*writing, last, return_exceptions=True)

        failed, second, last = run(scene())
    assert isinstance(failed, psycopg.OperationalError)
    assert {(second.first_seq, second.last_seq), (last.first_seq, last.last_seq)} == {
        (1, ENOUGH),
        (ENOUGH + 1, 2 * ENOUGH),
    }
    assert rows_of("t")[last.first_seq - 1] == (last.first_seq, "3")


def test_what_postgres_refuses_of_the_first_leaves_the_second_alone():
    services.ensure_topics(["t"])
    with held("t") as release:

        async def scene() -> tuple[Any, ...]:
            leaders = [begin(data=b"\x00"), begin(data=b"2")]
            writing = await two_under_way(leaders[0])
            release.set()
            return await asyncio.gather(leaders[1], *writing, return_exceptions=True)

        neighbour, refused, second = run(scene())
    assert isinstance(refused, psycopg.Error)
    rows = rows_of("t")
    assert len(rows) == ENOUGH + 1
    assert rows[neighbour.first_seq - 1] == (neighbour.first_seq, "2")
    assert second.last_seq - second.first_seq == ENOUGH - 1


def test_when_the_topic_is_deleted_before_them_both_are_answered_as_of_a_new_one():
    services.ensure_topics(["t"])
    with held("t", deletes=True) as release:

        async def scene() -> tuple[Written, Written]:
            writing = await two_under_way()
            release.set()
            return await asyncio.gather(*writing)

        written = run(scene())
    assert sorted(w.created for w in written) == [False, True]
    assert [seq for seq, _ in rows_of("t")] == list(range(1, ENOUGH + 2))
    assert {w.first_seq for w in written} in ({1, 2}, {1, ENOUGH + 1})


def test_a_key_that_both_carry_is_written_once():
    services.ensure_topics(["t"])
    with held("t") as release:

        async def scene() -> tuple[Written, Written]:
            first = begin(records=ENOUGH, key=b"k")
            writing = await two_under_way(first, key=b"k")
            release.set()
            return await asyncio.gather(*writing)

        written = run(scene())
    assert sorted(w.deduped for w in written) == [False, True]
    assert {(w.first_seq, w.last_seq) for w in written} == {(1, ENOUGH)}
    assert len(rows_of("t")) == ENOUGH


def test_an_append_whose_client_leaves_is_written_behind_all_the_same():
    services.ensure_topics(["t"])
    with held("t") as release:

        async def scene() -> None:
            _, second = await two_under_way(data=b"2")
            second.cancel()
            release.set()
            await until(lambda: groupcommit.groups_under_way() == 0)

        run(scene())
    assert [data for _, data in rows_of("t")].count("2") == ENOUGH


def test_whatever_happens_meanwhile_each_record_is_where_its_writer_was_told(
    monkeypatch: pytest.MonkeyPatch,
):
    """Writers of two topics, some of which leave, while the topics are deleted and backends are ended."""
    monkeypatch.setattr(groupcommit, "_FOLLOWING_RECORDS", 4)
    services.ensure_topics(["t", "u"])
    end_one = on_waiters("pg_terminate_backend")
    numbers = count(1)
    told: dict[str, Written] = {}
    most_under_way = 0

    async def write_many(number: int) -> None:
        nonlocal most_under_way
        for turn in range(60):
            data = str(next(numbers))
            writing = begin("tu"[number % 2], data.encode(), records=1 + turn % 3)
            if (turn + number) % 7 == 0:
                await asyncio.sleep(0)
                writing.cancel()
            with suppress(asyncio.CancelledError, psycopg.OperationalError):
                told[data] = await writing
            most_under_way = max(most_under_way, groupcommit.groups_under_way())

    def delete(topic: str) -> None:
        services.delete_topic(topic=topic, caller="test")
        connection.close()

    async def disturb() -> None:
        for turn in range(12):
            await asyncio.to_thread(delete, "tu"[turn % 2])
            await asyncio.to_thread(end_one, 2)

    async def scene() -> None:
        await asyncio.gather(*[write_many(number) for number in range(24)], disturb())
        await groupcommit.write(make_append("t", b"0"))
        await groupcommit.write(make_append("u", b"0"))
        await until(lambda: groupcommit.groups_under_way() == 0)

    run(scene())
    assert most_under_way > 1
    for topic in Topic.objects.filter(name__in=["t", "u"]):
        rows = rows_of(topic.name)
        assert [seq for seq, _ in rows] == list(range(1, topic.head + 1))
        assert topic.count == len(rows)
        for seq, data in rows:
            if (written := told.get(data)) is not None:
                assert written.first_seq <= seq <= written.last_seq
