"""Bars of stages on one axis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from apps.console.executions.gantt import LEAST, WIDTH, Bar, bars

BEGAN = datetime(2031, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def test_bars_stand_where_their_stages_ran():
    spans = [(at(0), at(2)), (at(2), at(7)), (at(7), at(10))]
    assert bars(spans, began=BEGAN, ended=at(10)) == [Bar(0, 200), Bar(200, 500), Bar(700, 300)]


def test_what_goes_on_reaches_to_the_end_and_what_has_not_begun_has_none():
    spans = [(at(5), None), (None, None)]
    assert bars(spans, began=BEGAN, ended=at(10)) == [Bar(500, 500), None]


def test_what_took_no_time_is_still_seen_and_within_the_axis():
    for start in (0, 5, 10):
        (bar,) = bars([(at(start), at(start))], began=BEGAN, ended=at(10))
        assert bar
        assert bar.width == LEAST
        assert bar.x + bar.width <= WIDTH


def test_clocks_that_differ_and_executions_without_duration_stay_on_the_axis():
    (bar,) = bars([(at(-3), at(99))], began=BEGAN, ended=BEGAN)
    assert bar == Bar(0, WIDTH)
