"""core.body: every complaint is heard, up to a number that one answer can hold."""

from __future__ import annotations

import pytest

from apps.core.body import Body
from apps.core.errors import MOST_COMPLAINTS, Invalid


def test_a_hostile_array_earns_a_bounded_answer():
    body = Body({"command": [[]] * 50_000})
    assert body.strings("command") == []
    with pytest.raises(Invalid) as refused:
        body.finish()
    assert len(refused.value.detail["errors"]) == MOST_COMPLAINTS
    assert "more)" in refused.value.message


def test_hostile_members_earn_a_bounded_answer():
    body = Body({f"x{number}": 0 for number in range(5000)})
    body.refuse_unknown()
    with pytest.raises(Invalid, match=r"\(and 4999 more\)") as refused:
        body.finish()
    assert len(refused.value.detail["errors"]) == MOST_COMPLAINTS
