"""The statements of queues: which indexes they use, what they wait for, what a crash of Postgres means to them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection

from apps.core import asyncdb, sql
from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.models import Job, Queue, Topic
from apps.topics.queues import leftovers, passes
from apps.topics.queues.orders import Ack, Claim, Extend, Nack
from apps.topics.services import NewEvent, append_events
from tests import aio

pytestmark = pytest.mark.django_db(transaction=True)


def make_queue(jobs: int, name: str = "q", **config: Any) -> Topic:
    wanted = TopicConfig(kind="queue", **config)
    services.configure_topic(topic=name, wanted=wanted, caller="test")
    if jobs:
        append_events([NewEvent(name, str(n)) for n in range(jobs)])
    return Topic.objects.get(name=name)


def carry_out(*orders: Any) -> Any:
    return aio.run(passes.carry_out("q", orders))[0]


def explained(monkeypatch: pytest.MonkeyPatch, *orders: Any) -> dict[str, str]:
    """Carry out orders, and return the plan of each statement of queues as it was carried out."""
    run, plans = sql.run_async, {}

    async def explain(name: str, /, *, on: Any = None, **params: Any) -> Any:
        if on is not None and "/queues/" in name and not name.endswith("lock_queue"):
            async with on.transaction(force_rollback=True):
                cursor = await on.execute(
                    "EXPLAIN (ANALYZE, COSTS OFF) " + sql.statement(name), params
                )
                plans[name.rpartition("/")[2]] = "\n".join(
                    row[0] for row in await cursor.fetchall()
                )
        return await run(name, on=on, **params)

    monkeypatch.setattr(sql, "run_async", explain)
    carry_out(*orders)
    monkeypatch.undo()
    return plans


def test_a_backlog_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    """No statement of a pass scans records or jobs, even if Postgres believes that there are none."""
    make_queue(0, max_deliveries=2, dead_letter="dead")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE topics_event, topics_job, topics_queue, topics_topic")
    append_events([NewEvent("q", "1")] * 20_000)
    carry_out(Claim(b"w", 1000), Claim(b"w", 1000), Claim(b"x", 1000))
    carry_out(Nack(b"w", list(range(1, 501)), [0] * 500))
    plans = explained(
        monkeypatch,
        Ack(b"w", [600, 601], [0, 0]),
        Extend(b"w", [602], [0], 1000),
        Claim(b"w", 600),
    )
    assert set(plans) == {
        *("return_jobs", "held_leases", "write_jobs", "exhausted_jobs", "claim_jobs"),
        "write_queue",
    }
    for name, plan in plans.items():
        for table in ("topics_event", "topics_job"):
            assert f"Seq Scan on {table}" not in plan, f"{name}\n{plan}"
        # By topic and seq, or by topic and due: never all of a topic's.
        for scan in re.findall(r"on topics_(?:job|event)\w*.*\n\s+Index Cond: (.*)", plan):
            assert "AND" in scan, f"{name}\n{plan}"
    assert "job_by_due" in plans["return_jobs"]
    assert "topics_job_pkey" in plans["held_leases"]
    assert "job_returned" in plans["claim_jobs"]
    assert re.search(r"topics_event_\d+_pkey", plans["claim_jobs"])


WAITS = [
    ("disk", False, {}),
    ("fsync", False, {Ack}),
    ("disk", True, {Claim, Nack, Extend, Ack}),
    ("fsync", True, {Claim, Nack, Extend, Ack}),
]


@pytest.mark.parametrize(("durability", "leases_durable", "waiting"), WAITS)
def test_acks_are_as_durable_as_the_topic_and_leases_as_the_queue_says(
    monkeypatch: pytest.MonkeyPatch, durability: Any, leases_durable: bool, waiting: set[type]
):
    """§6 `leases_durable`, §9."""
    make_queue(4, durability=durability, leases_durable=leases_durable)
    carry_out(Claim(b"w", 3))
    run, relaxed = sql.run_async, []

    async def noted(name: str, /, **params: Any) -> Any:
        if name == "topics/queues/write_queue":
            relaxed.append(params["relaxed"])
        return await run(name, **params)

    monkeypatch.setattr(sql, "run_async", noted)
    for order in (
        Ack(b"w", [1], [0]),
        Nack(b"w", [2], [0]),
        Extend(b"w", [3], [0], 1000),
        Claim(b"w", 1),
    ):
        carry_out(order)
        assert relaxed.pop() == (type(order) not in waiting), type(order).__name__


def test_a_relaxed_pass_commits_without_waiting_for_the_disk():
    topic = make_queue(1)
    aio.run(passes.open_queue("q"))

    async def committed_with() -> str:
        async with asyncdb.transaction() as conn:
            row = await passes.lock_queue(conn, "q")
            this = passes.Pass(conn, "q", row)
            await this.do([Claim(b"w", 1)])
            cursor = await conn.execute("SELECT current_setting('synchronous_commit')")
            return str((await cursor.fetchall())[0][0])

    assert aio.run(committed_with()) == "off"
    assert Queue.objects.get(topic=topic).leased == 1


def test_after_a_crash_of_postgres_no_lease_number_comes_again():
    """A crash empties the table of marks; claims that were not flushed may be lost with their numbers."""
    topic = make_queue(3)
    carry_out(Claim(b"w", 1))
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE topics_queue_intact")
    claim = Claim(b"w", 1)
    assert carry_out(claim)[claim].jobs[0].lease == 1 + passes.SKIPPED_LEASES + 1
    assert Queue.objects.get(topic=topic).last_lease == passes.SKIPPED_LEASES + 2
    again = Claim(b"w", 1)
    assert carry_out(again)[again].jobs[0].lease == passes.SKIPPED_LEASES + 3


def test_the_sweep_forgets_the_queues_of_deleted_topics():
    make_queue(3)
    kept = make_queue(1, "other")
    carry_out(Claim(b"w", 2))
    aio.run(passes.carry_out("other", [Claim(b"w", 1)]))
    services.delete_topic(topic="q", caller="test")
    # As the sweep of the log does; all of it would leave a second segment to other tests.
    leftovers.forget_deleted()
    assert list(Queue.objects.values_list("topic_id", flat=True)) == [kept.pk]
    assert list(Job.objects.values_list("topic_id", flat=True)) == [kept.pk]
