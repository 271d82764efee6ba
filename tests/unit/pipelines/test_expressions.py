"""What an expression may cost: short ones that would fill the memory end as a failed step."""

from __future__ import annotations

import pytest

from apps.pipelines.errors import ExpressionFailed
from apps.pipelines.language import expressions

TWICE = " | ".join(["`[1]`"] + ["[@,@][]"] * 16)


@pytest.mark.parametrize(
    "expression",
    [
        " | ".join(["`[1]`"] + ["[@,@][]"] * 40),
        " | ".join(["`[1]`"] + ["[@,@]"] * 300),
        " | ".join(["`[1]`"] + ["[@,@]"] * 20 + ["to_string(@)"]),
        " | ".join(["`[1]`"] + ["to_string([@])"] * 40),
        " | ".join(["'a'"] + ["join(@,[@,@,@,@])"] * 40),
        " | ".join([TWICE] + ["[?@==`1`]"] * 100),
        f"{TWICE} | [{','.join(['sum(@)'] * 300)}]",
    ],
    ids=["elements", "nested", "written", "quoted", "joined", "steps", "calls"],
)
def test_an_expression_that_would_take_too_much_fails(expression):
    with pytest.raises(ExpressionFailed, match="it would take more than 33554432 characters"):
        expressions.evaluate(expression, {})


def test_what_messages_hold_at_most_is_no_work():
    messages = [{"data": {"x": "y" * 1024 * 1024}} for _ in range(16)]

    assert len(expressions.evaluate("messages[].data.x", {"messages": messages})) == 16


def test_thousands_of_items_are_filtered_and_shaped():
    items = [{"name": "a", "price": price} for price in range(10_000)]

    found = expressions.evaluate(
        "data.items[?price >= `9000`].{n: name, p: price}", {"data": {"items": items}}
    )

    assert len(found) == 1000
    assert found[0] == {"n": "a", "p": 9000}
