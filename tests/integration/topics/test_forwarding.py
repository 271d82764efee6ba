"""Forwarding under fire: killed anywhere, done by many at once, told late or never (topics v0 §16.4, §16.5)."""

from __future__ import annotations

import asyncio
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connection, transaction

from apps.core import sql, threads
from apps.core.sse import hub
from apps.topics import queries, services
from apps.topics.appending import groupcommit, listeners
from apps.topics.appending.admission import Append
from apps.topics.appending.batch import Record
from apps.topics.models import Event, Router, Topic
from apps.topics.routers import forwarder, forwarding
from apps.topics.routers import services as routers
from apps.topics.routers.config import RouterConfig
from apps.topics.services import NewEvent, append_events

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def route(source: str = "a", dest: str = "b", **over: Any) -> int:
    done = routers.configure_router(
        router=f"{source}-{dest}",
        wanted=RouterConfig(source=source, dest=dest, **over),
        caller="test",
    )
    return done.router.pk


def write(topic: str, *numbers: int, **over: Any) -> None:
    append_events([NewEvent(topic, str(number), **over) for number in numbers])


def datas(topic: str) -> list[int]:
    rows = Event.objects.filter(topic__name=topic).order_by("seq").values_list("data", flat=True)
    return [int(data) for data in rows]


def in_threads(writers: list[Callable[[], None]], forwarders: list[Callable[[], None]]) -> None:
    """Run writers, and beside them forwarders again and again, once more after the end; raise what one has raised."""
    barrier = threading.Barrier(len(writers) + len(forwarders))
    errors: list[BaseException] = []
    writing = len(writers)

    def body(work: Callable[[], None], *, is_writer: bool) -> None:
        nonlocal writing
        try:
            barrier.wait()
            while True:
                was_last = writing == 0
                work()
                if is_writer or was_last or errors:
                    break
        except BaseException as exc:
            errors.append(exc)
        finally:
            if is_writer:
                writing -= 1
            connection.close()

    running = [
        threading.Thread(target=body, args=[work], kwargs={"is_writer": work in writers})
        for work in (*writers, *forwarders)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


class Killed(BaseException):
    """The process has gone."""


class Scalpel:
    """Does something to the statement number `at` of the event loop: before it, or instead of what follows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.before: dict[str, Callable[[], None]] = {}
        self.die_after: int | None = None
        self._run = sql.run_async
        monkeypatch.setattr(sql, "run_async", self.run)

    async def run(self, name: str, /, **params: Any) -> sql.Result:
        if (cut := self.before.pop(name, None)) is not None:
            await asyncio.to_thread(cut)
        result = await self._run(name, **params)
        self.ran.append(name)
        if self.die_after is not None and len(self.ran) == self.die_after:
            raise Killed
        return result


@pytest.fixture
def scalpel(monkeypatch: pytest.MonkeyPatch) -> Scalpel:
    return Scalpel(monkeypatch)


def forward_all(source: str = "a") -> None:
    """Forward once what a topic has, and let what went wrong be seen."""

    async def scene() -> None:
        for router_id, until in await forwarding.due_from(source):
            await forwarding.forward(router_id, until=until)

    threads.run_here(scene())


# --- Killed anywhere --------------------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {}
CASES = [
    pytest.param({}, {}, id="plain"),
    pytest.param({}, {"cap_records": 100, "discard": "reject"}, id="judged"),
    pytest.param({}, {"cap_records": 100}, id="capped"),
    pytest.param({"guarantee": "exactly_once"}, {"durability": "fsync"}, id="stamped"),
]


@pytest.mark.parametrize(("config", "dest"), CASES)
def test_killed_after_any_statement_it_copies_each_record_once(
    config: dict[str, Any], dest: dict[str, Any], scalpel: Scalpel
) -> None:
    Topic.objects.create(name="b", **dest)
    route(**config)
    forward_all()
    expected: list[int] = []
    for die_after in range(1, 20):
        batch = [die_after * 10 + number for number in range(3)]
        write("a", *batch)
        expected += batch
        scalpel.ran, scalpel.die_after = [], die_after
        try:
            forward_all()
        except Killed:
            assert datas("b") in (expected, expected[:-3])
            router = Router.objects.get()
            assert (router.position, router.forwarded_total) == (len(datas("b")),) * 2
            scalpel.die_after = None
            forward_all()
        else:
            break
        finally:
            scalpel.die_after = None
        assert datas("b") == expected
    else:
        pytest.fail("it never came to the end")
    assert datas("b") == expected
    assert die_after > 3


def test_killed_while_it_tells_of_a_loss_it_tells_once(scalpel: Scalpel) -> None:
    route()
    write("a", 1)
    forward_all()
    Topic.objects.filter(name="a").update(cap_records=1)
    head = 1
    for die_after in range(1, 20):
        write("a", 2, 3, 4)
        head += 3
        scalpel.ran, scalpel.die_after = [], die_after
        try:
            forward_all()
        except Killed:
            scalpel.die_after = None
            forward_all()
        else:
            break
        finally:
            scalpel.die_after = None
        topic = Topic.objects.get(name="b")
        assert topic.head == head
        assert topic.count == 1 + (head - 1) // 3
    assert die_after > 5
    gaps = [
        (gap.first_seq, gap.last_seq) for gap in Topic.objects.get(name="b").gaps.order_by("pk")
    ]
    assert gaps == [(seq, seq + 1) for seq in range(2, head, 3)]


def test_a_connection_that_breaks_costs_no_copy(scalpel: Scalpel) -> None:
    route()
    write("a", 1, 2)

    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
                " WHERE state = 'idle in transaction' AND query LIKE 'UPDATE topics_router%'"
            )
            assert cursor.fetchall() == [(True,)]
        connection.close()

    scalpel.before["topics/append_records"] = cut
    with pytest.raises(psycopg.OperationalError):
        forward_all()
    assert datas("b") == []
    assert Router.objects.get().position == 0
    forward_all()
    assert datas("b") == [1, 2]


def test_a_cap_that_comes_between_is_minded(scalpel: Scalpel) -> None:
    route()
    write("a", 1, 2, 3)

    def limit() -> None:
        Topic.objects.filter(name="b").update(cap_records=2, discard="reject")
        connection.close()

    scalpel.before["topics/routers/advance_router"] = limit
    forward_all()
    assert datas("b") == [1, 2]
    assert (Router.objects.get().position, Router.objects.get().forwarded_total) == (2, 2)


def test_a_dest_that_is_full_by_then_keeps_the_position(scalpel: Scalpel) -> None:
    route()
    write("b", 0)
    write("a", 1)

    def limit() -> None:
        Topic.objects.filter(name="b").update(cap_records=1, discard="reject")
        connection.close()

    scalpel.before["topics/routers/advance_router"] = limit
    forward_all()
    assert datas("b") == [0]
    assert (Router.objects.get().position, Router.objects.get().forwarded_total) == (0, 0)
    Topic.objects.filter(name="b").update(cap_records=0)
    forward_all()
    assert datas("b") == [0, 1]


def test_a_router_deleted_meanwhile_copies_nothing(scalpel: Scalpel) -> None:
    router_id = route()
    write("a", 1)
    routers.delete_router(router="a-b", caller="test")
    threads.run_here(forwarding.forward(router_id, until=1))
    assert datas("b") == []


# --- Many at once -----------------------------------------------------------------------------------------------------


def test_many_forwarders_copy_each_record_once_and_in_order() -> None:
    route()
    route("a", "c", filter="even")
    count = 300

    def write_some() -> None:
        for number in range(count):
            with transaction.atomic():
                write("a", number, tag="even" if number % 2 == 0 else "odd")

    in_threads([write_some], [forward_all] * 3)
    assert datas("b") == list(range(count))
    assert datas("c") == list(range(0, count, 2))


def test_a_ring_under_load_never_deadlocks() -> None:
    for source, dest in ("ab", "bc", "ca"):
        route(source, dest, allow_cycle=True)
    # Retention is always due on each of them, so that passes settle their sources, too.
    Topic.objects.update(cap_records=10_000, ttl_ms=3_600_000)
    count = 60

    def write_some(topic: str, first: int) -> Callable[[], None]:
        def work() -> None:
            for number in range(first, first + count):
                with transaction.atomic():
                    write(topic, number)

        return work

    in_threads(
        [write_some(topic, first) for topic, first in (("a", 0), ("b", 1000), ("c", 2000))],
        [partial(forward_all, topic) for topic in "abc"],
    )
    forwarder.sweep()
    everything = sorted(first + number for first in (0, 1000, 2000) for number in range(count))
    for topic in "abc":
        assert sorted(datas(topic)) == everything


def test_topics_may_go_while_they_are_forwarded() -> None:
    def make_and_delete() -> None:
        for _ in range(15):
            route("a", "b")
            with transaction.atomic():
                write("a", 1, 2, 3)
            services.delete_topic(topic="b", caller="test")

    in_threads([make_and_delete], [forward_all] * 2)
    assert not Router.objects.exists()
    assert not Topic.objects.get(name="a").has_listeners


# --- Who is called ----------------------------------------------------------------------------------------------------


def test_a_writer_elsewhere_sends_a_nudge_only_where_a_router_reads(
    enqueued: list[tuple[str, dict[str, Any]]], redis: Any
) -> None:
    route()
    with transaction.atomic():
        write("b", 1)
        write("other", 1)
    assert enqueued == []
    with transaction.atomic():
        write("a", 1, 2)
    assert ("topics.sweep_routers", {}) in enqueued


def test_the_sweep_finds_what_nobody_was_told_of() -> None:
    for source, dest in ("ab", "bc", "xy"):
        route(source, dest)
    write("a", 1)
    write("x", 2)
    forwarder.sweep()
    # With what follows from it.
    assert (datas("b"), datas("c"), datas("y")) == ([1], [1], [2])
    assert sql.run_bound("topics/routers/find_behind").rows == []


def test_a_sync_reader_waits_for_copies_too() -> None:
    for source, dest in ("ab", "bc"):
        route(source, dest)
    write("a", 1)
    page = queries.read_after("b", 0, 10)
    assert page is not None
    assert [record.data for record in page.records] == ["1"]
    assert datas("c") == [1]


def test_appends_of_this_process_are_forwarded_at_once_and_coalesced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route()
    forwarded: list[str] = []
    original = forwarding.due_from

    async def due_from(source: str) -> list[tuple[int, int]]:
        forwarded.append(source)
        return await original(source)

    monkeypatch.setattr(forwarding, "due_from", due_from)

    async def scene() -> None:
        for number in range(5):
            record = Record(data=str(number).encode(), size=1)
            writes = [
                groupcommit.write(Append(topic=topic, records=[record], size=1))
                for topic in ("a", "quiet")
                for _ in range(20)
            ]
            await asyncio.gather(*writes)
        await forwarder.idle()
        await forwarder.close()

    threads.run_here(scene())
    assert len(datas("b")) == 100
    assert set(forwarded) == {"a"}
    assert len(forwarded) <= 10


def test_a_failure_is_left_to_the_sweep(scalpel: Scalpel, caplog: pytest.LogCaptureFixture) -> None:
    route()
    write("a", 1)

    def fail() -> None:
        raise psycopg.errors.DeadlockDetected

    scalpel.before["topics/append_records"] = fail

    async def scene() -> None:
        listeners.wake(["a"])
        await forwarder.idle()
        assert "the sweep will go on" in caplog.text
        # And the next call is heard.
        listeners.wake(["a"])
        await forwarder.idle()

    threads.run_here(scene())
    assert datas("b") == [1]


def test_readers_of_the_dest_are_woken(redis: Any) -> None:
    route()
    write("a", 1)
    with redis.pubsub() as heard:
        heard.subscribe("gyoza:wakeups")
        forwarder.sweep()
        words = [message["data"] for message in iter(lambda: heard.get_message(timeout=5), None)]
    assert any(b"topic:b" in word for word in words if isinstance(word, bytes))
    assert hub.REDIS_CHANNEL == "gyoza:wakeups"


def test_the_statements_use_the_indexes_named_in_their_headers() -> None:
    router_id = route()
    write("a", *range(50))
    params: dict[str, dict[str, Any]] = {
        "read_source": {"router_id": router_id, "limit": 1024, "budget": 1 << 20, "now": 0},
        "advance_router": {
            "router_id": router_id,
            "position": 0,
            "forwarded_total": 0,
            "lost_hops": None,
        },
        "find_due": {"name": "a"},
        "find_owed": {"name": "b"},
        "read_router": {"name": "a-b"},
    }
    plans = {}
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            for name, given in params.items():
                cursor.execute("EXPLAIN " + sql.statement(f"topics/routers/{name}"), given)
                plans[name] = str(cursor.fetchall())
        finally:
            cursor.execute("RESET enable_seqscan")
    assert re.search(r"topics_event_\d+_pkey", plans["read_source"])
    assert "topics_router_pkey" in plans["read_source"]
    assert "topics_router_pkey" in plans["advance_router"]
    assert "topics_router_source_id" in plans["find_due"]
    assert "topics_router_dest_id" in plans["find_owed"]
    assert "router_once_per_name" in plans["read_router"]
