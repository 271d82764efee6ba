from __future__ import annotations

import pytest

from apps.core.digits import read_digits


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 19, 10**19 - 1)])
def test_ascii_digits_are_a_number(text, number):
    assert read_digits(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", " 1", "1 ", "1\n", "1_0", "1.0", "1e3", "0x1", "٣", "²", "９", "9" * 20],
)
def test_anything_else_is_none(text):
    assert read_digits(text) is None


def test_more_digits_are_taken_where_they_are_expected():
    assert read_digits("9" * 20, most=20) == 10**20 - 1
    assert read_digits("10", most=1) is None
