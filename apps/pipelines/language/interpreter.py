"""JMESPath evaluated within bounds: a short expression can ask for more than there is memory or time. Pure."""

from __future__ import annotations

from typing import Any

from jmespath.visitor import TreeInterpreter

JSON = Any

# What an expression may cost: a character made or handed to a function is one, an element or a step of it are so many.
MOST_WORK = 32 * 1024 * 1024
_EACH = 16

# Nodes that make a value; all others find one that is there.
_MAKERS = frozenset(
    {
        "filter_projection",
        "flatten",
        "function_expression",
        "multi_select_dict",
        "multi_select_list",
        "projection",
        "slice",
        "value_projection",
    }
)


class TooMuchWork(ValueError):
    """An expression would make more than any may."""


class Interpreter(TreeInterpreter):
    """Evaluates one expression once. Raises TooMuchWork, and what the library raises."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MOST_WORK
        # By id, each kept so that its id stays its own.
        self._weights: dict[int, tuple[JSON, int]] = {}

    def visit(self, node: Any, value: JSON) -> JSON:
        """Evaluate a node, paying for the step and for what it makes."""
        self._pay(_EACH)
        found = super().visit(node, value)
        if node["type"] in _MAKERS:
            self._pay(_length(found))
            # The same value twice in a value costs nothing until somebody writes it down.
            if self._weight(found) > MOST_WORK:
                raise _too_much()
        return found

    def visit_function_expression(self, node: Any, value: JSON) -> JSON:
        """Call a function that is paid for what it is given, before."""
        given = [self.visit(child, value) for child in node["children"]]
        for argument in given:
            self._pay(_length(argument))
        if node["value"] == "to_string":
            self._pay(sum(self._weight(argument) for argument in given))
        if node["value"] == "join" and len(given) == 2:
            self._pay(_length(given[0]) * _length(given[1]) // _EACH)
        return self._functions.call_function(node["value"], given)  # type: ignore[attr-defined]

    def _pay(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise _too_much()

    def _weight(self, value: JSON) -> int:
        """Return what a value is once it is written down."""
        if isinstance(value, str):
            return len(value)
        if not isinstance(value, list | dict):
            return _EACH
        known = self._weights.get(id(value))
        if known is None:
            members = value.values() if isinstance(value, dict) else value
            known = value, _EACH + sum(map(self._weight, members))
            self._weights[id(value)] = known
        return known[1]


def _length(value: JSON) -> int:
    if isinstance(value, str):
        return len(value)
    return _EACH * len(value) if isinstance(value, list | dict) else 0


def _too_much() -> TooMuchWork:
    return TooMuchWork(
        f"it would take more than {MOST_WORK} characters, {_EACH} for each element and step"
    )
