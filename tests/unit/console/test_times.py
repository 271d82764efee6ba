"""How long something lasts, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from apps.console.templatetags.times import lasting, took

BEGAN = datetime(2031, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (3_599, "59 min 59 s"),
        (3_660, "1 h 01 min"),
        (90_000, "1 d 1 h"),
        (-5, "0 ms"),
    ],
)
def test_the_time_between_two_moments_is_told(seconds, said):
    assert took(BEGAN, BEGAN + timedelta(seconds=seconds)) == said


def test_what_goes_on_lasts_until_now():
    with time_machine.travel(BEGAN + timedelta(seconds=90), tick=False):
        assert took(BEGAN, None) == "1 min 30 s"


def test_what_has_not_begun_lasts_no_time():
    assert took(None, None) == ""


def test_milliseconds_are_told():
    assert lasting(2_592_000_000) == "30 d 0 h"
