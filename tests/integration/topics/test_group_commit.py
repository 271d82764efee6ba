"""Group commit: what arrives together is committed together, and nobody pays for his neighbour."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from django.db import connection

from apps.core import asyncdb, sql
from apps.core.errors import Throttled
from apps.topics import services
from apps.topics.appending import groupcommit
from apps.topics.appending.admission import Written
from apps.topics.keeping import eviction
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent
from tests.aio import run
from tests.integration.topics.appending import held, make_append, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the statements that ran in the event loop."""
    ran: list[str] = []
    original = sql.run_async

    async def run_async(name: str, /, **params: Any) -> sql.Result:
        ran.append(name)
        return await original(name, **params)

    monkeypatch.setattr(sql, "run_async", run_async)
    return ran


def test_what_arrives_together_is_one_statement(statements: list[str]):
    services.ensure_topics(["t", "u"])

    async def scene() -> list[Written]:
        return await asyncio.gather(
            *[groupcommit.write(make_append("tu"[n % 2])) for n in range(100)]
        )

    written = run(scene())
    assert statements == ["topics/append_records"]
    assert [w.first_seq for w in written] == [n // 2 + 1 for n in range(100)]


def test_one_that_postgres_refuses_fails_alone():
    services.ensure_topics(["t"])

    async def scene() -> list[Any]:
        appends = [make_append(), make_append(data=b"\x00"), make_append()]
        return await asyncio.gather(*map(groupcommit.write, appends), return_exceptions=True)

    first, second, third = run(scene())
    assert isinstance(second, psycopg.Error)
    assert sorted([first.first_seq, third.first_seq]) == [1, 2]
    assert Event.objects.count() == 2


def test_a_topic_that_somebody_holds_does_not_hold_up_the_others():
    services.ensure_topics(["held", "free"])
    with held("held") as release:

        async def scene() -> Written:
            blocked = asyncio.create_task(groupcommit.write(make_append("held")))
            await until(lambda: groupcommit.groups_under_way() == 1)
            free = await groupcommit.write(make_append("free"))
            assert not blocked.done()
            release.set()
            await blocked
            return free

        assert run(scene()).first_seq == 1


def test_however_many_write_to_it_and_whenever_the_others_come():
    services.ensure_topics(["held", "free"])
    with held("held") as release:

        async def scene() -> tuple[list[int], list[int]]:
            loop = asyncio.get_running_loop()
            blocked, free = [], []
            for _ in range(20):
                blocked.append(asyncio.create_task(groupcommit.write(make_append("held"))))
                # Each time the group that is stuck has been found to be.
                await until(lambda: groupcommit.groups_under_way() > 0)
                await until(lambda: groupcommit._committers[loop]._moving == 0)
                free.append((await groupcommit.write(make_append("free"))).first_seq)
                await until(lambda: groupcommit.groups_under_way() == 1)
            assert not any(task.done() for task in blocked)
            release.set()
            return free, [written.first_seq for written in await asyncio.gather(*blocked)]

        free, blocked = run(scene())
    assert free == list(range(1, 21))
    assert sorted(blocked) == list(range(1, 21))


def test_a_write_whose_caller_has_gone_is_made_all_the_same():
    services.ensure_topics(["t"])

    async def scene() -> Written:
        gone = asyncio.create_task(groupcommit.write(make_append()))
        await asyncio.sleep(0)
        gone.cancel()
        return await groupcommit.write(make_append())

    assert run(scene()).last_seq <= 2
    assert Event.objects.count() == 2


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groupcommit, "_WAITING_BYTES", 3)

    async def scene() -> list[Any]:
        appends = [make_append() for _ in range(5)]
        return await asyncio.gather(*map(groupcommit.write, appends), return_exceptions=True)

    assert [type(outcome) for outcome in run(scene())] == [Written] * 3 + [Throttled] * 2


def test_a_connection_that_breaks_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    """The commit may have happened: appending once more could append twice."""
    services.ensure_topics(["t"])
    slow = sql.statement("topics/append_records").replace(
        "FROM moved m\n", "FROM moved m, pg_sleep(30)\n"
    )
    assert "pg_sleep" in slow
    monkeypatch.setattr(sql, "statement", lambda name: slow)

    async def scene() -> Any:
        writing = asyncio.create_task(groupcommit.write(make_append()))
        while not await asyncio.to_thread(terminate_sleepers):
            pass
        return await asyncio.gather(writing, return_exceptions=True)

    def terminate_sleepers() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            found = cursor.fetchall()
        connection.close()
        return bool(found)

    [outcome] = run(scene())
    assert isinstance(outcome, psycopg.OperationalError)
    assert not Event.objects.exists()


def test_an_idle_connection_that_postgres_has_closed_is_replaced():
    services.ensure_topics(["t"])

    async def scene() -> Written:
        await groupcommit.write(make_append())
        async with asyncdb.connection() as lent:
            pid = lent.info.backend_pid
        await asyncio.to_thread(terminate, pid)
        return await groupcommit.write(make_append())

    def terminate(pid: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 30000)", [pid])
        connection.close()

    assert run(scene()).first_seq == 2


@pytest.mark.parametrize("has_gaps", [False, True])
def test_what_is_due_in_quantity_doesn_t_keep_writers_waiting(
    statements: list[str], monkeypatch: pytest.MonkeyPatch, has_gaps: bool
):
    monkeypatch.setattr(eviction, "_CHUNK", 4)
    monkeypatch.setattr(eviction, "_STEP", 4)
    monkeypatch.setattr(eviction, "_CHUNK_MAX", 4)
    services.append_events([NewEvent("t", "0") for _ in range(21)])
    if has_gaps:
        Event.objects.filter(seq=15).delete()
        Topic.objects.update(count=20, bytes=20)
    Topic.objects.update(cap_records=2)

    async def scene() -> list[Written]:
        appends = [make_append(key=b"k"), make_append()]
        return await asyncio.gather(*map(groupcommit.write, appends))

    assert [written.last_seq for written in run(scene())] == [22, 23]
    topic = Topic.objects.get()
    assert (topic.count, topic.bytes, topic.earliest, topic.cap_floor) == (2, 2, 22, 21)
    # With gaps the first transaction is given up, and most is done without the lock.
    assert statements.count("topics/lock_topics") == 2
    assert statements.count("topics/lock_topic") == (2 if has_gaps else 0)
