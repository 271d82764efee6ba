"""Which messages start an execution: `options.trigger.filter` (pipelines-storage.md §2). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core.body import Body, is_number, shown
from apps.core.digits import read_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

JSON = Any
MOST_FILTERS = 50
FIELDS = ("data", "meta", "tag", "node", "topic", "seq", "ts")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field of the message."""

    field: str
    op: str
    value: JSON


def read_filters(body: Body, name: str) -> tuple[Filter, ...]:
    """Read a list of conditions, leaving complaints in the body."""
    raw = body.array(name)
    if len(raw) > MOST_FILTERS:
        body.fail(name, f"must hold at most {MOST_FILTERS} conditions, has {len(raw)}")
        return ()
    return tuple(
        _read_filter(Body(one, path=body.at(f"{name}.{index}"), errors=body.errors))
        for index, one in enumerate(raw)
    )


def read_field(body: Body, name: str) -> str:
    """Read the name of a field of a message, such as `data.kind`."""
    field = body.text(name, default=None)
    if body.raw(name) == field and (field.split(".")[0] not in FIELDS or "" in field.split(".")):
        body.fail(name, f"must begin with one of {', '.join(FIELDS)}, got {shown(field)}")
    return field


def refusal(filters: Sequence[Filter], message: Mapping[str, JSON]) -> str | None:
    """Return why a message does not pass, None if it does: all conditions must hold.

    A missing field or a type mismatch is no match.
    """
    for one in filters:
        found = value_at(message, one.field)
        if one.op == "exists":
            holds = (found is not _MISSING) == one.value
        else:
            holds = found is not _MISSING and _TESTS[one.op](found, one.value)
        if not holds:
            what = "is missing" if found is _MISSING else f"is {shown(found)}"
            return f"{one.field} {what}, wanted {one.op} {shown(one.value)}"
    return None


def field_of(message: Mapping[str, JSON], field: str) -> JSON:
    """Return a field of a message; None if it is missing."""
    found = value_at(message, field)
    return None if found is _MISSING else found


def value_at(message: JSON, field: str) -> JSON:
    """Follow a dotted path through objects and arrays; `_MISSING` where it leads nowhere."""
    value = message
    for step in field.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and (index := read_digits(step)) is not None:
            if index >= len(value):
                return _MISSING
            value = value[index]
        else:
            return _MISSING
    return value


def _read_filter(body: Body) -> Filter:
    field = read_field(body, "field")
    op = body.choice("op", list(_OPS), default="eq") if body.present("op") else "eq"
    if not body.present("value") and op != "exists":
        body.fail("value", "is required")
    value = body.raw("value", True)
    problem = _OPS[op](value) if body.present("value") else ""
    if problem:
        body.fail("value", f"{problem}, got {shown(value)}")
    body.refuse_unknown()
    return Filter(field, op, value)


def _equal(found: JSON, wanted: JSON) -> bool:
    # In JSON, true is not 1.
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[JSON, JSON], bool]:
    def test(found: JSON, wanted: JSON) -> bool:
        alike = (isinstance(found, str) and isinstance(wanted, str)) or (
            is_number(found) and is_number(wanted)
        )
        return alike and compare(found, wanted)

    return test


def _textual(compare: Callable[[str, str], bool]) -> Callable[[JSON, JSON], bool]:
    return lambda found, wanted: isinstance(found, str) and compare(found, wanted)


_TESTS: dict[str, Callable[[JSON, JSON], bool]] = {
    "eq": _equal,
    "ne": lambda found, wanted: not _equal(found, wanted),
    "in": lambda found, wanted: any(_equal(found, one) for one in wanted),
    "prefix": _textual(str.startswith),
    "suffix": _textual(str.endswith),
    "gt": _ordered(lambda found, wanted: found > wanted),
    "gte": _ordered(lambda found, wanted: found >= wanted),
    "lt": _ordered(lambda found, wanted: found < wanted),
    "lte": _ordered(lambda found, wanted: found <= wanted),
}


def _anything(_: JSON) -> str:
    return ""


def _text(value: JSON) -> str:
    return "" if isinstance(value, str) else "must be a string"


def _orderable(value: JSON) -> str:
    return "" if isinstance(value, str) or is_number(value) else "must be a number or a string"


# What each operator wants as its value; the answer is the complaint.
_OPS: dict[str, Callable[[JSON], str]] = {
    "eq": _anything,
    "ne": _anything,
    "in": lambda value: "" if isinstance(value, list) else "must be an array",
    "prefix": _text,
    "suffix": _text,
    "gt": _orderable,
    "gte": _orderable,
    "lt": _orderable,
    "lte": _orderable,
    "exists": lambda value: "" if isinstance(value, bool) else "must be true or false",
}
