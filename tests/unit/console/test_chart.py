"""Bars of what is written: as high as their share of the most, never none where there is something."""

from __future__ import annotations

from apps.console.templatetags.rates import counted, moment, rate, time_of_day
from apps.console.topics.chart import HEIGHT, STEP, charts
from apps.topics.vitals.throughput import Part, Throughput


def drawn(*values: float | None) -> list[tuple[int, int, int]]:
    parts = [Part(n, value, value) for n, value in enumerate(values)]
    [chart, _] = charts(Throughput(parts, Part(0, 7.0, 7.0)))
    return [(bar.x, bar.y, bar.height) for bar in chart.bars]


def test_bars_are_shares_of_the_most():
    assert drawn(0.0, 50.0, 100.0) == [
        (0, HEIGHT, 0), (STEP, HEIGHT // 2, HEIGHT // 2), (2 * STEP, 0, HEIGHT),
    ]  # fmt: skip


def test_little_is_seen_and_nothing_is_not():
    assert [height > 0 for _, _, height in drawn(0.001, 0.0, 1e9)] == [True, False, True]


def test_what_nobody_knows_is_as_high_as_the_chart():
    assert drawn(None, 0.0) == [(0, 0, HEIGHT), (STEP, HEIGHT, 0)]


def test_figures_leave_out_what_nobody_knows():
    parts = [Part(0, None, None), Part(1, 2.0, 20.0), Part(2, 4.0, 40.0)]
    records, size = charts(Throughput(parts, Part(3, None, 1.0)))
    assert (records.most, records.mean, records.latest) == (4.0, 3.0, None)
    assert (size.most, size.mean, size.latest) == (40.0, 30.0, 1.0)
    assert records.width == 3 * STEP
    assert charts(Throughput([], Part(0, None, None)))[0].mean == 0


def test_numbers_are_written_for_people():
    assert [rate(one, "records") for one in (None, 0.0, 0.25, 12.4, 12345.6)] == [
        "unknown", "0", "0.2", "12", "12,346",
    ]  # fmt: skip
    assert rate(0.01, "records") == "under 0.1"
    assert rate(2048.0, "bytes").replace("\xa0", " ") == "2.0 KB"
    assert rate(0.5, "bytes") == "under a byte"
    assert counted(1641160) == "1,641,160"
    assert time_of_day(1_000) == "00:00:01"
    assert moment("2030-01-02T03:04:05.678901Z") == "2030-01-02 03:04:05.678"
