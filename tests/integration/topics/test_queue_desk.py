"""The desk of a queue when things go wrong: callers that leave, passes that fail, and more orders than it takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connection, transaction

from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.models import Job, Queue, WaitingClaim
from apps.topics.queues import desk, leftovers, passes
from apps.topics.queues.orders import Ack, Claim, Claimed, Filed
from apps.topics.services import NewEvent, append_events
from tests import aio
from tests.asgi_client import PATIENCE
from tests.integration.topics.queue_state import assert_sound
from tests.sessions import kill_blocked_sessions, wait_for_a_blocked_session

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def make_queue(jobs: int, **config: Any) -> None:
    wanted = TopicConfig(kind="queue", **config)
    services.configure_topic(topic="q", wanted=wanted, caller="test")
    append_events([NewEvent("q", str(n)) for n in range(jobs)])


async def is_so(condition: Callable[[], bool]) -> None:
    """Return once it is so; each look is a query, so that time passes."""

    def look() -> bool:
        try:
            return condition()
        finally:
            connection.close()

    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(look):
            pass


class Hold:
    """Holds the queue's lock, so that a pass is under way for as long as a test wants."""

    def __init__(self) -> None:
        self._atomic = transaction.atomic()

    def __enter__(self) -> None:
        self._atomic.__enter__()
        leftovers.lock("q")

    def __exit__(self, *exc: Any) -> None:
        self._atomic.__exit__(*exc)
        connection.close()


class InThread:
    """Enters and leaves a block in one thread that is not the event loop's."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._enough, self._entered = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> None:
        self._thread = asyncio.create_task(asyncio.to_thread(self._hold))
        await self._entered.wait()

    async def __aexit__(self, *exc: object) -> None:
        self._enough.set()
        await self._thread

    def _hold(self) -> None:
        with self._block:
            self._loop.call_soon_threadsafe(self._entered.set)
            asyncio.run_coroutine_threadsafe(self._enough.wait(), self._loop).result(PATIENCE)


def blocked() -> None:
    wait_for_a_blocked_session()
    connection.close()


def killed() -> None:
    kill_blocked_sessions()
    connection.close()


def file_elsewhere(most: int) -> Claim:
    """Have a claim of another web process wait in the window."""
    claim = Claim(b"elsewhere", most)
    outcomes, _ = aio.run(passes.carry_out("q", [claim]))
    filed = outcomes[claim]
    assert isinstance(filed, Filed)
    claim.ticket = filed.ticket
    return claim


def end_elsewhere(claim: Claim) -> Claimed:
    outcomes, _ = aio.run(passes.carry_out("q", [claim]))
    claimed = outcomes[claim]
    assert isinstance(claimed, Claimed)
    return claimed


def test_a_claim_that_failed_leaves_its_window_so_that_nobody_deals_to_it():
    make_queue(4, claim_jitter_ms=100)

    async def scene() -> None:
        claiming = asyncio.create_task(desk.claim("q", Claim(b"w", 4)))
        await is_so(WaitingClaim.objects.exists)
        async with InThread(Hold()):
            await asyncio.to_thread(killed)
            with pytest.raises(psycopg.OperationalError):
                await claiming
        await is_so(lambda: not WaitingClaim.objects.exists())

    aio.run(scene())
    assert [job.seq for job in end_elsewhere(file_elsewhere(4)).jobs] == [1, 2, 3, 4]
    assert set(Job.objects.values_list("deliveries", flat=True)) == {1}


def test_a_caller_who_leaves_a_window_is_dealt_nothing():
    make_queue(4, claim_jitter_ms=200)

    async def scene() -> Claimed:
        leaving = asyncio.create_task(desk.claim("q", Claim(b"gone", 4)))
        staying = asyncio.create_task(desk.claim("q", Claim(b"here", 4)))
        await is_so(lambda: WaitingClaim.objects.count() == 2)
        leaving.cancel()
        return await staying

    claimed = aio.run(scene())
    assert [job.seq for job in claimed.jobs] == [1, 2, 3, 4]
    assert set(Job.objects.values_list("deliveries", "node")) == {(1, "here")}
    assert not WaitingClaim.objects.exists()


def test_what_another_process_dealt_to_a_caller_who_has_left_comes_back():
    make_queue(2, claim_jitter_ms=5000)

    async def scene() -> None:
        leaving = asyncio.create_task(desk.claim("q", Claim(b"gone", 1)))
        await is_so(WaitingClaim.objects.exists)
        there = await asyncio.to_thread(file_elsewhere, 1)
        assert [job.seq for job in (await asyncio.to_thread(end_elsewhere, there)).jobs] == [2]
        await is_so(lambda: Queue.objects.get().leased == 2)
        leaving.cancel()
        await is_so(lambda: Queue.objects.get().leased == 1)

    aio.run(scene())
    assert_sound("q")


def test_a_caller_who_leaves_before_he_hears_the_answer_leaves_no_lease_behind():
    make_queue(1)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        claiming = asyncio.create_task(desk.claim("q", Claim(b"w", 1)))
        await asyncio.sleep(0)
        [answer] = desk._desk("q").open_orders()

        def leave_when_answered() -> None:
            # In every turn of the loop, and so before the caller has his.
            if answer.done():
                assert not claiming.done()
                claiming.cancel()
            else:
                loop.call_soon(leave_when_answered)

        leave_when_answered()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        claimed = answer.result()
        assert isinstance(claimed, Claimed)
        assert claimed.jobs
        await is_so(lambda: Queue.objects.get().leased == 0)

    aio.run(scene())
    assert_sound("q")


def test_a_desk_that_is_full_still_takes_back_what_nobody_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "_MOST_WAITING", 2)
    make_queue(2)

    async def scene() -> None:
        async with InThread(Hold()):
            leaving = asyncio.create_task(desk.claim("q", Claim(b"gone", 1)))
            staying = asyncio.create_task(desk.claim("q", Claim(b"here", 1)))
            await asyncio.to_thread(blocked)
            leaving.cancel()
            late = [desk.order("q", Ack(b"w", [9], [0])) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            [job] = (await staying).jobs
            assert job.seq == 2
            await asyncio.gather(*late)
        await is_so(lambda: Queue.objects.get().leased == 1)

    aio.run(scene())
    assert_sound("q")
