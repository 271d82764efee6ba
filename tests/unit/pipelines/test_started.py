"""Executions whose runs have started: each is looked at once, when most runs would be over, in the order of the starts."""

from __future__ import annotations

from uuid import UUID

from apps.pipelines.execution.started import PATIENCE_SECONDS, Started

A, B, C = (UUID(int=n) for n in range(3))


def test_they_are_due_after_a_while_and_once():
    started = Started()
    assert started.seconds_left(now=5.0) is None
    assert started.add([A], now=5.0)
    assert not started.add([A, B], now=5.3)
    assert started.take(10, now=5.0 + PATIENCE_SECONDS - 0.01) == []
    left = started.seconds_left(now=5.0) or 0
    assert PATIENCE_SECONDS <= left <= 2 * PATIENCE_SECONDS
    assert started.take(10, now=5.0 + 2 * PATIENCE_SECONDS) == [A]
    assert started.take(10, now=9.0) == [B]
    assert started.take(10, now=9.0) == []
    assert started.seconds_left(now=9.0) is None


def test_those_that_start_at_about_the_same_time_are_due_together():
    started = Started()
    for n, one in enumerate([A, B, C]):
        started.add([one], now=10.01 + n / 1000)
    assert started.take(10, now=10.0 + 2 * PATIENCE_SECONDS + 0.001) == [A, B, C]


def test_those_somebody_looks_at_are_left_out():
    started = Started()
    started.add([A, B], now=0.0)
    started.forget([A, C])
    assert started.take(10, now=9.0) == [B]


def test_many_are_taken_bit_by_bit():
    started = Started()
    started.add([A, B, C], now=0.0)
    assert started.take(2, now=9.0) == [A, B]
    assert started.seconds_left(now=9.0) == 0
    assert started.take(2, now=9.0) == [C]


def test_nobody_is_woken_for_nothing():
    assert not Started().add([], now=0.0)
