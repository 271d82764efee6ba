from __future__ import annotations

from typing import Any

import pytest

from apps.definitions.specs import check_outputs, fill_inputs


def spec(kind: str, **over: Any) -> dict[str, Any]:
    return {"type": kind, "required": True, "default": None, **over}


def errors(specs: dict[str, Any], **inputs: Any) -> list[str]:
    return [field for field, _ in fill_inputs(specs, inputs)[1]]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", ["", "x"]),
        ("int", [0, -5, 2**63]),
        ("float", [0, 1, 1.5, -2.0]),
        ("bool", [True, False]),
        ("object", [{}, {"a": 1}]),
        ("array", [[], [1]]),
        ("any", ["x", 1, 1.5, True, {}, []]),
    ],
)
def test_it_takes_values_of_the_type(kind: str, values: list[Any]):
    for value in values:
        assert errors({"x": spec(kind)}, x=value) == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("string", [1, True, [], {}]),
        ("int", [True, False, 1.0, "1", []]),
        ("float", [True, "1", float("nan"), float("inf")]),
        ("bool", [0, 1, "true"]),
        ("object", [[], "x"]),
        ("array", [{}, "x"]),
    ],
)
def test_it_refuses_values_of_another_type(kind: str, values: list[Any]):
    for value in values:
        assert errors({"x": spec(kind)}, x=value) == ["inputs.x"]


def test_it_writes_defaults_into_the_inputs():
    specs = {
        "path": spec("string"),
        "top_k": spec("int", required=False, default=5),
        "label": spec("string", required=False),
    }
    assert fill_inputs(specs, {"path": "/x"}) == ({"path": "/x", "top_k": 5, "label": None}, [])


def test_filled_inputs_may_be_given_again():
    specs = {"label": spec("string", required=False), "n": spec("int", default=3)}
    filled, _ = fill_inputs(specs, {})
    assert fill_inputs(specs, filled) == (filled, [])


def test_it_names_every_error_at_once():
    specs = {"a": spec("int"), "b": spec("string"), "c": spec("bool")}
    assert errors(specs, b=1, d=2) == ["inputs.a", "inputs.b", "inputs.c", "inputs.d"]


def test_null_is_no_value_for_a_required_input():
    assert errors({"a": spec("int")}, a=None) == ["inputs.a"]


@pytest.mark.parametrize(
    ("over", "value"),
    [
        ({"min": 1}, 0),
        ({"max": 1}, 2),
        ({"enum": [1, 2]}, 3),
    ],
)
def test_it_holds_values_to_their_bounds(over: dict[str, Any], value: int):
    assert errors({"x": spec("int", **over)}, x=value) == ["inputs.x"]


def test_true_is_not_the_one_of_an_enum():
    assert errors({"x": spec("any", enum=[1, [0]])}, x=True) == ["inputs.x"]
    assert errors({"x": spec("any", enum=[1, [0]])}, x=[False]) == ["inputs.x"]
    assert errors({"x": spec("any", enum=[1, {"a": [0]}])}, x={"a": [0.0]}) == []


def test_outputs_must_be_there_and_of_their_type():
    specs = {"rows": {"type": "int"}, "name": {"type": "string"}}
    assert check_outputs(specs, {"rows": 5, "name": "x", "more": None}) == []
    assert [field for field, _ in check_outputs(specs, {"rows": "5"})] == [
        "outputs.rows",
        "outputs.name",
    ]
