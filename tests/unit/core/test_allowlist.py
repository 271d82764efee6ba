from __future__ import annotations

import pytest

from apps.core.allowlist import is_allowed


@pytest.mark.parametrize(
    ("dotted", "pattern"),
    [
        ("a.b:c", "a.b:c"),
        ("a.b:_c", "a.b:_c"),
        ("a.b:c", "a.b.*"),
        ("a.b.d:c", "a.b.*"),
        ("a:c", "a.*"),
    ],
)
def test_a_pattern_covers(dotted: str, pattern: str):
    assert is_allowed(dotted, ["x.*", pattern])


@pytest.mark.parametrize(
    ("dotted", "pattern"),
    [
        ("a.b:c", "*"),
        ("a.b:c", ".*"),
        ("a.b:c", "a.b"),
        ("a.b:c", "a.b:*"),
        ("a.bc:d", "a.b.*"),
        ("a.b:_c", "a.b.*"),
        ("a.b:c.d", "a.b.*"),
        ("a.b", "a.*"),
        ("a..b:c", "a.*"),
        ("a.b:c\n", "a.*"),
        ("", "a.*"),
    ],
)
def test_a_pattern_does_not_cover(dotted: str, pattern: str):
    assert not is_allowed(dotted, [pattern])
