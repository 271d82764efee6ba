"""topics v0 §14: tag predicates."""

from __future__ import annotations

import pytest

from apps.core.errors import Invalid
from apps.topics import predicates


@pytest.mark.parametrize(
    ("given", "wire"),
    [
        ("v", ["tag", "Eq", "v"]),
        ("", ["tag", "Eq", ""]),
        ("p*", ["tag", "Glob", "p*"]),
        ("*", ["tag", "Glob", "*"]),
        ("a*b", ["tag", "Eq", "a*b"]),
        ("a*b**", ["tag", "Glob", "a*b**"]),
        (["tag", "Eq", "p*"], ["tag", "Eq", "p*"]),
        (["tag", "Glob", "p*"], ["tag", "Glob", "p*"]),
    ],
)
def test_both_forms_are_read_and_one_is_written(given, wire):
    """⚑25."""
    assert predicates.parse(given).wire() == wire


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["tag"],
        ["tag", "Eq"],
        ["tag", "Eq", "v", "w"],
        ["node", "Eq", "v"],
        ["tag", "eq", "v"],
        ["tag", "Regex", "v"],
        ["tag", "Glob", "v"],
        ["tag", "Glob", ""],
        ["tag", "Glob", "*v"],
    ],
)
def test_anything_else_is_refused(given):
    with pytest.raises(Invalid):
        predicates.parse(given)


@pytest.mark.parametrize(
    ("given", "tag", "is_meant"),
    [
        ("v", "v", True),
        ("v", "V", False),
        ("v", "vv", False),
        ("v", None, False),
        ("p*", "p", True),
        ("p*", "pq", True),
        ("p*", "q", False),
        ("p*", None, False),
        ("*", "", True),
        ("*", None, False),
        (["tag", "Eq", "p*"], "p*", True),
        (["tag", "Eq", "p*"], "pq", False),
        ("a*b*", "a*bc", True),
        ("a*b*", "axb", False),
    ],
)
def test_which_tags_are_meant(given, tag, is_meant):
    assert predicates.parse(given).matches(tag) is is_meant
