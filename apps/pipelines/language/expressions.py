"""JMESPath in documents: checked when a document is saved, evaluated when its step starts. Pure.

An expression sees `trigger`, `inputs`, `steps.<name>.outputs`, `execution`, and `item` inside a `for_each`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jmespath
from jmespath.exceptions import JMESPathError

from apps.pipelines.errors import ExpressionFailed
from apps.pipelines.language.interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JSON = Any
REF = "$ref"
MAX_LENGTH = 4096  # characters of one expression
ROOTS = frozenset({"trigger", "inputs", "steps", "execution"})
ITEM = "item"  # a root inside a for_each
WHOLE = "@"


@lru_cache(maxsize=4096)
def compiled(expression: str) -> Any:
    """Return the parsed expression; raises ValueError with a message for its author."""
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"must be at most {MAX_LENGTH} characters")
    try:
        return jmespath.compile(expression)
    except JMESPathError as exc:
        raise ValueError(f"is not JMESPath: {_first_line(exc)}") from exc
    except RecursionError as exc:
        raise ValueError("is nested too deeply") from exc


def evaluate(expression: str, scope: Mapping[str, JSON]) -> JSON:
    """Return the value of an expression; raises ExpressionFailed naming it and the shape of what it saw."""
    try:
        return Interpreter().visit(compiled(expression).parsed, scope)
    except (JMESPathError, ValueError, ArithmeticError, RecursionError, TypeError) as exc:
        raise ExpressionFailed(
            f"{expression!r} failed: {_first_line(exc)}; it was given {shape(scope)}"
        ) from exc


def is_true(value: JSON) -> bool:
    """Say whether JMESPath takes a value for true: not null, false, "", [] or {}."""
    return value is not None and value is not False and value not in ("", [], {})


def fill(template: JSON, scope: Mapping[str, JSON]) -> JSON:
    """Return a template with every `{"$ref": expression}` replaced by its value. Raises ExpressionFailed."""
    if isinstance(template, dict):
        if template.keys() == {REF}:
            return evaluate(template[REF], scope)
        return {name: fill(value, scope) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, scope) for value in template]
    return template


def references(template: JSON, path: str = "") -> Iterator[tuple[str, JSON]]:
    """Yield (dotted path, expression) for each `$ref` in a template; what should be an expression may be anything."""
    if isinstance(template, dict):
        if REF in template:
            yield path, template[REF] if template.keys() == {REF} else template
            return
        for name, value in template.items():
            yield from references(value, f"{path}.{name}" if path else name)
    elif isinstance(template, list):
        for index, value in enumerate(template):
            yield from references(value, f"{path}.{index}")


@dataclass(frozen=True, slots=True)
class Reads:
    """What an expression reads: roots of the scope, steps by name, and whether `steps` as a whole."""

    roots: frozenset[str]
    steps: frozenset[str]
    all_steps: bool


def reads(expression: str) -> Reads:
    """Say what an expression reads. Raises ValueError as `compiled` does."""
    used = set(_uses(compiled(expression).parsed, at_root=True))
    return Reads(
        roots=frozenset(root for root, _ in used if root != WHOLE),
        steps=frozenset(member for root, member in used if root == "steps" and member is not None),
        all_steps=bool(used & {("steps", None), (WHOLE, None)}),
    )


def shape(value: JSON, *, depth: int = 3) -> str:
    """Describe a value by its types, for an error message: `{data: {kind: string, rows: [number × 3]}}`."""
    if isinstance(value, dict):
        if depth == 0:
            return "{…}"
        shown = [
            f"{name}: {shape(item, depth=depth - 1)}" for name, item in list(value.items())[:12]
        ]
        return "{" + ", ".join(shown + (["…"] if len(value) > 12 else [])) + "}"
    if isinstance(value, list):
        if not value:
            return "[]"
        return f"[{shape(value[0], depth=depth - 1) if depth else '…'} × {len(value)}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "number" if isinstance(value, int | float) else "string"


def _uses(node: dict[str, Any], *, at_root: bool) -> Iterator[tuple[str, str | None]]:
    """Yield (root, its member) for each use of the scope, the member None where none is named."""
    kind, children = node["type"], node.get("children", [])
    if kind in ("literal", "index", "slice", "expref", "identity"):
        return
    if kind in ("field", "current"):
        if at_root:
            yield (node["value"] if kind == "field" else WHOLE), None
        return
    if kind == "subexpression" and at_root and (named := _named(children)) is not None:
        yield named
        return
    for index, child in enumerate(children):
        # Everything after the first child sees what the first one has found.
        yield from _uses(child, at_root=at_root and (index == 0 or kind in _SAME_SCOPE))


# Nodes all of whose children are evaluated on the same value.
_SAME_SCOPE = frozenset(
    {
        "function_expression",
        "comparator",
        "or_expression",
        "and_expression",
        "not_expression",
        "multi_select_list",
        "multi_select_dict",
        "key_val_pair",
    }
)


def _named(children: list[dict[str, Any]]) -> tuple[str, str] | None:
    """Return (root, member) for the children of `root.member` and of whatever goes on from there."""
    first, second = children[:2]
    both = first["type"] == second["type"] == "field"
    return (first["value"], second["value"]) if both else None


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
