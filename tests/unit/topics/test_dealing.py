"""Who gets which job."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.topics.queues import dealing

WANTED = st.lists(st.integers(0, 12), max_size=8)


def test_in_turn_each_takes_what_it_wants():
    assert dealing.in_turn([2, 3, 4], 6) == [1, 1, 2, 2, 2, 3]
    assert dealing.in_turn([2, 3], 0) == []


def test_round_robin_deals_one_at_a_time():
    assert dealing.round_robin([1, 3, 2], 10) == [1, 2, 3, 2, 3, 2]
    assert dealing.round_robin([9, 9], 3) == [1, 2, 1]


@given(WANTED, st.integers(0, 60))
def test_everything_is_dealt_and_nobody_gets_too_much(wanted: list[int], jobs: int):
    for deal in (dealing.in_turn, dealing.round_robin):
        dealt = deal(wanted, jobs)
        assert len(dealt) == min(jobs, sum(wanted))
        assert all(dealt.count(n) <= most for n, most in enumerate(wanted, 1))


@given(WANTED, st.integers(0, 60))
def test_round_robin_is_fair(wanted: list[int], jobs: int):
    """Nobody has two more than another who wanted more."""
    dealt = dealing.round_robin(wanted, jobs)
    got = [dealt.count(n) for n in range(1, len(wanted) + 1)]
    for mine, most in zip(got, wanted, strict=True):
        assert mine == most or all(other <= mine + 1 for other in got)
