"""Input and output specs: what they may say, and whether values fit them (runs.md §1). Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from apps.core.body import JSON, Body, FieldError, is_integer, is_number, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class InputType(StrEnum):
    """Types an input or an output may have."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    OBJECT = "object"
    ARRAY = "array"
    ANY = "any"


ALIASES = {
    "integer": InputType.INT,
    "number": InputType.FLOAT,
    "boolean": InputType.BOOL,
    "list": InputType.ARRAY,
    "dict": InputType.OBJECT,
}
NUMERIC = frozenset({InputType.INT, InputType.FLOAT})

_FITS: dict[InputType, tuple[Callable[[JSON], bool], str]] = {
    InputType.STRING: (lambda value: isinstance(value, str), "a string"),
    InputType.INT: (is_integer, "an integer"),
    InputType.FLOAT: (is_number, "a number"),
    InputType.BOOL: (lambda value: isinstance(value, bool), "true or false"),
    InputType.OBJECT: (lambda value: isinstance(value, dict), "an object"),
    InputType.ARRAY: (lambda value: isinstance(value, list), "an array"),
    InputType.ANY: (lambda value: True, "anything"),
}


def read_input_specs(body: Body) -> dict[str, JSON]:
    """Read the member `input_specs` into its stored form: canonical types, every default written out."""
    return {
        name: _read_input_spec(Body(raw, path=body.at(f"input_specs.{name}"), errors=body.errors))
        for name, raw in _named(body, "input_specs").items()
    }


def read_output_specs(body: Body) -> dict[str, JSON]:
    """Read the member `output_specs` into its stored form."""
    return {
        name: _read_output_spec(Body(raw, path=body.at(f"output_specs.{name}"), errors=body.errors))
        for name, raw in _named(body, "output_specs").items()
    }


def fill_inputs(
    specs: Mapping[str, JSON], inputs: Mapping[str, JSON], *, path: str = "inputs"
) -> tuple[dict[str, JSON], list[FieldError]]:
    """Return the inputs with defaults filled in, and every way in which they do not fit their specs."""
    filled: dict[str, JSON] = {}
    errors = [
        (f"{path}.{name}", "is not an input of this op") for name in inputs.keys() - specs.keys()
    ]
    for name, spec in specs.items():
        value = inputs.get(name)
        has_default = spec["default"] is not None
        if name not in inputs:
            if spec["required"] and not has_default:
                errors.append((f"{path}.{name}", "is required"))
            filled[name] = spec["default"]
            continue
        filled[name] = value
        # An optional input without a default is stored as null, so null may be given for it.
        if value is not None or spec["required"] or has_default:
            errors.extend((f"{path}.{name}", problem) for problem in _problems(spec, value))
    return filled, sorted(errors)


def check_outputs(specs: Mapping[str, JSON], outputs: Mapping[str, JSON]) -> list[FieldError]:
    """Return every way in which outputs do not fit their specs; outputs that no spec names are fine."""
    errors: list[FieldError] = []
    for name, spec in specs.items():
        if name not in outputs:
            errors.append((f"outputs.{name}", "is missing"))
        elif problem := _type_problem(spec["type"], outputs[name]):
            errors.append((f"outputs.{name}", problem))
    return errors


def _named(body: Body, member: str) -> dict[str, JSON]:
    named = body.mapping(member)
    if "" in named:
        body.fail(member, "a name must not be empty")
    return named


def _read_type(body: Body) -> InputType:
    if not body.given("type"):
        body.fail("type", "is required")
        return InputType.ANY
    raw = body.raw("type")
    if isinstance(raw, str) and raw in ALIASES:
        return ALIASES[raw]
    return InputType(body.choice("type", list(InputType), default=InputType.ANY))


def _read_output_spec(body: Body) -> dict[str, JSON]:
    spec: dict[str, JSON] = {"type": str(_read_type(body))}
    if body.present("description"):
        spec["description"] = body.text("description")
    body.refuse_unknown()
    return spec


def _read_input_spec(body: Body) -> dict[str, JSON]:
    complaints = len(body.errors)
    kind = _read_type(body)
    spec: dict[str, JSON] = {
        "type": str(kind),
        "required": body.boolean("required", default=True),
        "default": body.raw("default"),
    }
    if body.present("description"):
        spec["description"] = body.text("description")
    for bound in ("min", "max"):
        if body.given(bound):
            spec[bound] = _read_bound(body, bound, kind)
    if body.given("enum"):
        spec["enum"] = _read_enum(body, kind)
    body.refuse_unknown()
    if is_number(spec.get("min")) and is_number(spec.get("max")) and spec["min"] > spec["max"]:
        body.fail("min", "must not be greater than max")
    # A default is judged only against a spec that makes sense in itself.
    if spec["default"] is not None and len(body.errors) == complaints:
        for problem in _problems(spec, spec["default"]):
            body.fail("default", problem)
    return spec


def _read_bound(body: Body, bound: str, kind: InputType) -> JSON:
    value = body.raw(bound)
    if kind not in NUMERIC:
        body.fail(bound, f"is for int and float, this input is {kind}")
    elif not is_number(value):
        body.fail(bound, f"must be a number, got {shown(value)}")
    return value


def _read_enum(body: Body, kind: InputType) -> list[JSON]:
    values = body.array("enum")
    if values == [] and isinstance(body.raw("enum"), list):
        body.fail("enum", "must not be empty")
    for index, value in enumerate(values):
        if problem := _type_problem(kind, value):
            body.fail(f"enum.{index}", problem)
    return values


def _problems(spec: Mapping[str, JSON], value: JSON) -> list[str]:
    if problem := _type_problem(spec["type"], value):
        return [problem]
    found = []
    if "enum" in spec and not any(_same(value, allowed) for allowed in spec["enum"]):
        found.append(f"must be one of {shown(spec['enum'])}, got {shown(value)}")
    if "min" in spec and value < spec["min"]:
        found.append(f"must be at least {shown(spec['min'])}, got {shown(value)}")
    if "max" in spec and value > spec["max"]:
        found.append(f"must be at most {shown(spec['max'])}, got {shown(value)}")
    return found


def _type_problem(kind: str, value: JSON) -> str:
    fits, noun = _FITS[InputType(kind)]
    return "" if fits(value) else f"must be {noun}, got {shown(value)}"


def _same(one: JSON, other: JSON) -> bool:
    """Compare as JSON does: true is not 1, 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)
