"""The coalescing window (topics v0 §18.3), step by step: claims are filed, and served when the window is over.

A pass stands for a web process: what two passes share is in Postgres alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.models import Queue, WaitingClaim
from apps.topics.queues import passes
from apps.topics.queues.orders import Ack, Claim, Claimed, Filed
from apps.topics.services import NewEvent, append_events
from tests import aio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.topics.queues.orders import Order, Outcome

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = int(START.timestamp() * 1000)
JITTER = 200


def make_queue(jobs: int, **config: Any) -> None:
    wanted = TopicConfig(kind="queue", claim_jitter_ms=JITTER, **config)
    services.configure_topic(topic="q", wanted=wanted, caller="test")
    append_events([NewEvent("q", str(n)) for n in range(jobs)])


def claim(most: int, lease_ms: int | None = None) -> Claim:
    return Claim(b"w", most, lease_ms)


def carry_out(orders: Sequence[Order]) -> dict[Order, Outcome]:
    outcomes, _ = aio.run(passes.carry_out("q", orders))
    return outcomes


def file(*claims: Claim) -> list[int]:
    """Have claims wait; return how long each does."""
    outcomes = carry_out(claims)
    waits = []
    for one in claims:
        filed = outcomes[one]
        assert isinstance(filed, Filed)
        one.ticket = filed.ticket
        waits.append(filed.wait_ms)
    return waits


def end(*claims: Claim) -> list[list[int]]:
    """Have the process of these claims come back after the window; return the seqs that each got."""
    outcomes = carry_out(claims)
    given = []
    for one in claims:
        claimed = outcomes[one]
        assert isinstance(claimed, Claimed)
        given.append([job.seq for job in claimed.jobs])
    return given


def test_jobs_are_dealt_one_at_a_time():
    """The first example of §18.3."""
    make_queue(50)
    claims = [claim(10) for _ in range(10)]
    file(*claims)
    given = end(*claims)
    assert [len(seqs) for seqs in given] == [5] * 10
    assert given[0] == [1, 11, 21, 31, 41]


def test_who_wants_little_leaves_the_rest_to_others():
    """The second example."""
    make_queue(9)
    modest, greedy = claim(2), claim(100)
    file(modest, greedy)
    assert end(modest, greedy) == [[1, 3], [2, 4, 5, 6, 7, 8, 9]]


def test_claimers_of_all_processes_share_a_window():
    make_queue(9)
    here, there = [claim(10) for _ in range(2)], [claim(10)]
    file(*here)
    file(*there)
    assert end(*here) == [[1, 4, 7], [2, 5, 8]]
    assert end(*there) == [[3, 6, 9]]
    assert not WaitingClaim.objects.exists()


def test_a_window_that_another_process_has_opened_is_joined_for_what_is_left_of_it():
    with time_machine.travel(START, tick=False) as clock:
        make_queue(1)
        assert file(claim(1)) == [JITTER]
        clock.shift(0.150)
        assert file(claim(1), claim(1)) == [50, 50]
        clock.shift(0.100)
        assert file(claim(1)) == [0]


def test_a_new_window_opens_after_the_old_one_was_served():
    with time_machine.travel(START, tick=False):
        make_queue(4)
        first, late = claim(1), claim(1)
        file(first)
        assert end(first) == [[1]]
        assert file(late) == [JITTER]
        assert end(late) == [[2]]


def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_a_window():
    with time_machine.travel(START, tick=False) as clock:
        make_queue(1)
        file(claim(1))
        clock.shift(-3600)
        assert file(claim(1)) == [JITTER]


def test_leases_begin_with_the_end_of_the_window_and_are_each_claimers_own():
    """★38."""
    with time_machine.travel(START, tick=False) as clock:
        make_queue(3, lease_ms=7000)
        claims = [claim(1, 1000), claim(1), claim(1, 90_000)]
        file(*claims[:2])
        file(*claims[2:])
        clock.shift(0.200)
        outcomes = {**carry_out(claims[:2]), **carry_out(claims[2:])}
        deadlines = [outcomes[one].jobs[0].deadline for one in claims]  # type: ignore[union-attr]
        assert deadlines == [NOW + 1200, NOW + 7200, NOW + 90_200]


def test_an_empty_queue_gives_everybody_nothing():
    make_queue(0)
    here, there = claim(5), claim(5)
    file(here)
    file(there)
    assert end(here) == [[]]
    assert end(there) == [[]]


def test_a_process_that_died_in_a_window_keeps_nobody_waiting():
    with time_machine.travel(START, tick=False) as clock:
        make_queue(4)
        file(claim(2))
        clock.shift(61)
        mine = claim(4)
        assert file(mine) == [0]
        assert end(mine) == [[1, 2, 3, 4]]
        assert not WaitingClaim.objects.exists()


def test_what_a_dead_process_was_given_expires():
    with time_machine.travel(START, tick=False) as clock:
        make_queue(2)
        dead, mine = claim(1, 1000), claim(1)
        file(dead)
        file(mine)
        assert end(mine) == [[2]]
        clock.shift(1.201)
        again = claim(1)
        file(again)
        assert end(again) == [[1]]


def test_claims_that_a_crash_of_postgres_has_forgotten_get_nothing():
    make_queue(2)
    mine = claim(1)
    file(mine)
    WaitingClaim.objects.all().delete()
    assert end(mine) == [[]]
    assert Queue.objects.get().leased == 0


def test_verdicts_wait_for_no_window():
    make_queue(1)
    mine = claim(1)
    file(mine)
    [job] = carry_out([mine])[mine].jobs  # type: ignore[union-attr]
    ack = Ack(b"w", [job.seq], [job.lease])
    assert carry_out([ack, claim(1)])[ack].done == [1]  # type: ignore[union-attr]


def test_a_job_that_expired_before_it_was_fetched_is_not_given_twice():
    with time_machine.travel(START, tick=False) as clock:
        make_queue(1)
        slow, other = claim(1, 100), claim(1, 60_000)
        file(slow)
        file(other)
        assert end(other) == [[]]
        clock.shift(0.101)
        another = claim(1, 60_000)
        file(another)
        assert end(another) == [[1]]
        assert end(slow) == [[]]
