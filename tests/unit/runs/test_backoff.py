from __future__ import annotations

import pytest

from apps.runs.backoff import allows_another, delay_seconds


def steady(low: float, high: float) -> float:
    return 0.0


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (5000, 60.0)]
)
def test_exponential_doubles_up_to_the_limit(failures, expected):
    assert delay_seconds({}, failures, uniform=steady) == expected


def test_fixed_stays_the_same():
    policy = {"backoff": "fixed", "delay_s": 3}
    assert [delay_seconds(policy, n, uniform=steady) for n in (1, 2, 9)] == [3, 3, 3]


def test_jitter_is_a_fraction_of_the_delay():
    policy = {"backoff": "fixed", "delay_s": 10, "jitter": 0.5}
    assert delay_seconds(policy, 1, uniform=lambda low, high: high) == 15
    assert delay_seconds(policy, 1, uniform=lambda low, high: low) == 5


def test_all_attempts_count():
    assert not allows_another({}, 1)
    assert allows_another({"max_attempts": 3}, 2)
    assert not allows_another({"max_attempts": 3}, 3)
