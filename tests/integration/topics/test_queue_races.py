"""Queues under real concurrency: each thread is a web process with an event loop and connections of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import connection, transaction

from apps.core import sql
from apps.topics import predicates, services
from apps.topics.config import TopicConfig
from apps.topics.models import Event, Job, Queue, Topic
from apps.topics.queues import desk, passes
from apps.topics.queues import services as queue_services
from apps.topics.queues.orders import Ack, Claim, Extend, Nack
from apps.topics.services import NewEvent, append_events
from tests import aio
from tests.integration.topics.queue_state import assert_sound
from tests.sessions import wait_for_a_blocked_session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from apps.topics.queues.orders import Claimed, Leased

pytestmark = pytest.mark.django_db(transaction=True)
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_queue(jobs: int, name: str = "q", **config: Any) -> None:
    wanted = TopicConfig(kind="queue", **config)
    services.configure_topic(topic=name, wanted=wanted, caller="test")
    append_events([NewEvent(name, str(n), tag="even" if n % 2 else "odd") for n in range(jobs)])


def processes(*works: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run coroutines at once, each in a thread and loop of its own; return what they return."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def process(place: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async def begin() -> Any:
            barrier.wait()
            return await work()

        try:
            results[place] = aio.run(begin())
        except BaseException as exc:
            results[place] = exc
        finally:
            connection.close()

    threads = [
        threading.Thread(target=process, args=(place, work)) for place, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def ack(job: Leased, node: bytes = b"w") -> Ack:
    return Ack(node, [job.seq], [job.lease])


async def drain(node: bytes, most: int) -> list[int]:
    """Claim and ack until there is nothing left; return what was done."""
    done: list[int] = []
    while True:
        jobs = (await desk.claim("q", Claim(node, most))).jobs
        if not jobs:
            return done
        verdict = Ack(node, [job.seq for job in jobs], [job.lease for job in jobs])
        done += (await desk.decide("q", verdict)).done


async def many_workers(prefix: str) -> list[int]:
    works = [drain(f"{prefix}{n}".encode(), 3) for n in range(5)]
    return [seq for done in await asyncio.gather(*works) for seq in done]


def test_every_job_is_done_once_whoever_claims_it():
    make_queue(600)
    done = processes(lambda: many_workers("a"), lambda: many_workers("b"))
    assert all(done), "one process did it all"
    assert Counter(done[0] + done[1]) == Counter(range(1, 601))
    assert_sound("q")
    topic = Topic.objects.get(name="q")
    assert (topic.count, topic.bytes, topic.earliest) == (0, 0, 601)
    assert not Job.objects.exists()


def test_producers_do_not_disturb_consumers():
    make_queue(1)

    async def produce() -> list[int]:
        for number in range(40):
            await asyncio.to_thread(_append, number)
        return []

    async def consume() -> list[int]:
        done: list[int] = []
        while len(done) < 401:
            done += await drain(b"c", 7)
        return done

    _, done = processes(produce, consume)
    assert done == list(range(1, 402))
    assert_sound("q")


def _append(number: int) -> None:
    append_events([NewEvent("q", str(number))] * 10)
    connection.close()


def test_an_ack_beats_the_next_claim_or_comes_too_late():
    """The lease is over for both of them, or for neither."""
    for round_ in range(12):
        name = f"q{round_}"
        with time_machine.travel(START, tick=False) as clock:
            make_queue(1, name)
            [job] = aio.run(_claim(name, lease_ms=1000)).jobs
            clock.shift(timedelta(milliseconds=1000 + round_ % 2))
            acked, claimed = processes(
                lambda name=name, job=job: _decide(name, ack(job)),  # type: ignore[misc]
                lambda name=name: _claim(name, node=b"other"),  # type: ignore[misc]
            )
        is_late = bool(round_ % 2)
        assert acked.done == ([] if is_late else [1])
        assert [again.seq for again in claimed.jobs] == ([1] if is_late else [])
        assert_sound(name)


def test_a_nacked_job_is_somebodys_or_ready():
    for round_ in range(12):
        name = f"q{round_}"
        make_queue(1, name)
        [job] = aio.run(_claim(name)).jobs
        nacked, claimed = processes(
            lambda name=name, job=job: _decide(name, Nack(b"w", [job.seq], [job.lease])),  # type: ignore[misc]
            lambda name=name: _claim(name, node=b"other"),  # type: ignore[misc]
        )
        assert nacked.done == [1]
        assert len(claimed.jobs) == Queue.objects.get(topic__name=name).leased
        assert_sound(name)


def test_of_two_that_ack_one_does():
    make_queue(200)
    jobs = aio.run(_claim("q", most=200)).jobs

    async def all_of_them() -> list[int]:
        verdicts = [desk.decide("q", ack(job)) for job in jobs]
        return [seq for decided in await asyncio.gather(*verdicts) for seq in decided.done]

    one, other = processes(all_of_them, all_of_them)
    assert sorted(one + other) == list(range(1, 201))


def test_deletions_beside_claims_and_acks_leave_the_counters_exact():
    """Locks: the queue before its topic, for everybody; else these would end each other."""
    make_queue(300)

    async def churn() -> int:
        for _ in range(30):
            jobs = (await desk.claim("q", Claim(b"w", 5))).jobs
            await asyncio.gather(
                *[desk.decide("q", ack(job)) for job in jobs[:2]],
                *[desk.decide("q", Nack(b"w", [job.seq], [0], 50)) for job in jobs[2:4]],
                *[desk.decide("q", Extend(b"w", [job.seq], [0], 500)) for job in jobs[4:]],
            )
        return 0

    async def delete() -> int:
        for number in range(15):
            await asyncio.to_thread(_delete, number)
        return 0

    processes(churn, churn, delete)
    assert_sound("q")


def _delete(number: int) -> None:
    if number % 2:
        services.delete_records(topic="q", match=predicates.parse("even"), caller="test")
    else:
        services.delete_records(topic="q", before_seq=number * 10, caller="test")
    append_events([NewEvent("q", "1", tag="even"), NewEvent("q", "2", tag="odd")] * 5)
    connection.close()


def test_dead_letters_of_two_queues_into_each_other():
    """Topics are locked by name, whichever queue the jobs come from."""
    make_queue(60, "a", max_deliveries=1, dead_letter="b")
    make_queue(60, "b", max_deliveries=1, dead_letter="a")

    def wear_out(name: str) -> Callable[[], Coroutine[Any, Any, int]]:
        async def work() -> int:
            for _ in range(12):
                jobs = (await desk.claim(name, Claim(b"w", 10))).jobs
                verdict = Nack(b"w", [job.seq for job in jobs], [job.lease for job in jobs])
                await desk.decide(name, verdict)
            return 0

        return work

    processes(wear_out("a"), wear_out("b"))
    assert_sound("a")
    assert_sound("b")
    assert Event.objects.count() >= 120
    assert sum(Topic.objects.values_list("count", flat=True)) == 120


def test_a_redrive_beside_claims_loses_nothing():
    make_queue(100, max_deliveries=1, dead_letter="dead")

    async def wear_out() -> int:
        for _ in range(15):
            jobs = (await desk.claim("q", Claim(b"w", 20))).jobs
            verdict = Nack(b"w", [job.seq for job in jobs], [job.lease for job in jobs])
            await desk.decide("q", verdict)
        return 0

    async def redrive() -> int:
        for _ in range(15):
            await asyncio.to_thread(_redrive)
        return 0

    processes(wear_out, redrive)
    assert_sound("q")
    assert sum(Topic.objects.values_list("count", flat=True)) == 100


def _redrive() -> None:
    queue_services.redrive_dead_letters(name="q", caller="test")
    connection.close()


def test_ten_thousand_claims_at_once_on_an_empty_queue_are_a_handful_of_passes(
    monkeypatch: pytest.MonkeyPatch,
):
    make_queue(0)
    run, statements = sql.run_async, Counter[str]()

    async def counted(name: str, /, **params: Any) -> Any:
        statements[name] += 1
        return await run(name, **params)

    monkeypatch.setattr(sql, "run_async", counted)

    async def rush() -> list[Claimed]:
        claims = [desk.claim("q", Claim(b"w%d" % n, 1 + n % 1000)) for n in range(10_000)]
        return await asyncio.gather(*claims)

    claimed = aio.run(rush())
    assert all(not one.jobs and one.depth.ready == 0 for one in claimed)
    assert statements["topics/queues/return_jobs"] <= 2
    assert "topics/queues/claim_jobs" not in statements
    assert "topics/queues/write_queue" not in statements


def test_a_rush_for_more_than_one_pass_can_give_serves_everybody(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("apps.topics.queues.passes.JOBS_PER_PASS", 50)
    make_queue(420)

    async def rush() -> list[Claimed]:
        return await asyncio.gather(*[desk.claim("q", Claim(b"w", 10)) for _ in range(45)])

    claimed = aio.run(rush())
    seqs = [job.seq for one in claimed for job in one.jobs]
    assert sorted(seqs) == list(range(1, 421))
    assert [len(one.jobs) for one in claimed] == [10] * 42 + [0] * 3


def test_a_claim_stops_before_its_payloads_outgrow_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("apps.topics.queues.passes.BYTES_PER_PASS", 100)
    services.configure_topic(topic="q", wanted=TopicConfig(kind="queue"), caller="test")
    append_events([NewEvent("q", '"' + "x" * size + '"') for size in (300, 40, 40, 40)])
    given = [[job.seq for job in aio.run(_claim("q", most=9)).jobs] for _ in range(4)]
    assert given == [[1], [2, 3], [4], []]
    assert_sound("q")


async def _claim(
    name: str, *, most: int = 1, node: bytes = b"w", lease_ms: int | None = None
) -> Claimed:
    return await desk.claim(name, Claim(node, most, lease_ms))


async def _decide(name: str, verdict: Any) -> Any:
    return await desk.decide(name, verdict)


def test_a_deletion_beside_the_very_first_claim_waits_for_nobody_who_waits_for_it():
    """The queue's row is not there yet: whoever comes first makes it, and holds it."""
    for round_ in range(10):
        name = f"q{round_}"
        make_queue(20, name)

        async def delete(name: str = name) -> int:
            await asyncio.to_thread(_delete_even, name)
            return 0

        async def claim_and_ack(name: str = name) -> int:
            jobs = (await desk.claim(name, Claim(b"w", 10))).jobs
            verdict = Ack(b"w", [job.seq for job in jobs], [job.lease for job in jobs])
            return len((await desk.decide(name, verdict)).done)

        processes(delete, claim_and_ack, delete)
        assert_sound(name)


def _delete_even(name: str) -> None:
    services.delete_records(topic=name, match=predicates.parse("even"), caller="test")
    connection.close()


def test_a_dead_letter_topic_that_sorts_before_its_queue_is_locked_before_it():
    """A pass that acks, and then dead-letters, beside somebody who appends to both in the order of their names."""
    make_queue(0, "a")
    make_queue(3, "q", max_deliveries=1, dead_letter="a")
    jobs = aio.run(_claim("q", most=2)).jobs
    aio.run(_decide("q", Nack(b"w", [jobs[0].seq], [jobs[0].lease])))
    done, wanted = ack(jobs[1]), Claim(b"w", 1)
    outcomes: list[dict[Any, Any]] = []

    def work() -> None:
        try:
            outcomes.append(aio.run(passes.carry_out("q", [done, wanted]))[0])
        finally:
            connection.close()

    working = threading.Thread(target=work)
    with transaction.atomic():
        append_events([NewEvent("a", "1")])
        working.start()
        wait_for_a_blocked_session()
        append_events([NewEvent("q", "1")])
    working.join()
    [of_both] = outcomes
    assert of_both[done].done == [2]
    assert [job.seq for job in of_both[wanted].jobs] == [3]
    assert_sound("q")
    assert Topic.objects.get(name="a").count == 2
