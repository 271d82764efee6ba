"""topics v0 §10: the effective priority."""

from __future__ import annotations

import pytest

from apps.topics.priority import effective_priority

NOW = 1_767_225_600_000


@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        (-5_000, 500),
        (0, 500),
        (15_000, 354),
        (30_000, 250),
        (60_000, 125),
        (120_000, 31),
        (299_999, 0),
        (300_000, 0),
        (10**15, 0),
    ],
)
def test_it_halves_every_thirty_seconds(idle, expected):
    found = effective_priority(manual=None, auto=True, last_consumed=NOW - idle, now=NOW)
    assert found == expected


@pytest.mark.parametrize(
    ("manual", "expected"),
    [(7, 7), (0, 0), (1000, 1000), (1001, 1000), (2**31 - 1, 1000), (-(2**31), -1000)],
)
def test_a_manual_one_is_clamped_and_wins(manual, expected):
    found = effective_priority(manual=manual, auto=True, last_consumed=NOW, now=NOW)
    assert found == expected


@pytest.mark.parametrize(("auto", "last_consumed"), [(False, NOW), (True, None)])
def test_otherwise_it_is_nought(auto, last_consumed):
    found = effective_priority(manual=None, auto=auto, last_consumed=last_consumed, now=NOW)
    assert found == 0
