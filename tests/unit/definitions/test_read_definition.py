from __future__ import annotations

from typing import Any

import pytest

from apps.core.errors import Invalid
from apps.definitions.work import read_definition

PYTHON_OPS = ["examples.ops.*", "package.module:main"]


def read(**members: Any):
    return read_definition({"id": "op", "version": "1", **members}, python_ops=PYTHON_OPS)


def complaints(**members: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        read_definition(members, python_ops=PYTHON_OPS)
    return {error["field"]: error["message"] for error in caught.value.detail["errors"]}


def test_it_fills_in_every_default():
    work = read(command=["true"]).work
    assert work.constraints == {
        "cpu": None, "ram_mb": None, "vram_mb": None, "gpu_id": None, "tags": [],
    }  # fmt: skip
    assert work.retry_policy == {
        "max_attempts": 1, "backoff": "exponential", "delay_s": 1, "max_delay_s": 60, "jitter": 0.1,
    }  # fmt: skip
    assert work.event_delivery == {"topic": "", "attributes": {}}
    assert (work.timeout_s, work.env, work.input_specs, work.output_specs) == (3600, {}, {}, {})


def test_it_names_every_bad_field_at_once():
    found = complaints(
        id="-op",
        version="",
        description=1,
        command=[],
        env={"A": 1, "B=C": "x"},
        input_specs={"n": {"type": "integer", "default": "3"}, "m": {}},
        output_specs={"o": {"type": "number?"}},
        constraints={"cpu": -1, "gpu": 1, "tags": ["a", 2]},
        retry_policy={"max_attempts": 0, "backoff": "linear", "jitter": 2},
        event_delivery={"topic": "a b", "attributes": []},
        timeout_s=0,
        created_at="now",
    )
    assert set(found) == {
        "id", "version", "description", "command", "env.A", "env.B=C", "input_specs.n.default",
        "input_specs.m.type", "output_specs.o.type", "constraints.cpu", "constraints.gpu",
        "constraints.tags.1", "retry_policy.max_attempts", "retry_policy.backoff",
        "retry_policy.jitter", "event_delivery.topic", "event_delivery.attributes", "timeout_s",
        "created_at",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "x" * 128])
def test_it_takes_a_legal_id(name: str):
    assert read(command=["true"], id=name).name == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a b", "ä", "x" * 129, "a\n", None, 5])
def test_it_refuses_an_illegal_id(name: object):
    assert set(complaints(id=name, version="1", command=["true"])) == {"id"}


@pytest.mark.parametrize("version", ["1", "2024-01 beta/ü\n", "x" * 64])
def test_it_takes_an_opaque_version(version: str):
    assert read(command=["true"], version=version).version == version


@pytest.mark.parametrize("version", ["", "x" * 65, 1, None])
def test_it_refuses_an_illegal_version(version: object):
    assert set(complaints(id="op", version=version, command=["true"])) == {"version"}


@pytest.mark.parametrize(
    "program",
    [
        {"image": "busybox"},
        {"command": ["true"]},
        {"image": "busybox", "command": ["true"]},
        {"python": "examples.ops.text:words"},
        {"python": "package.module:main", "image": None, "command": None},
    ],
)
def test_it_takes_a_legal_program(program: dict[str, Any]):
    assert read(**program)


@pytest.mark.parametrize(
    ("program", "fields"),
    [
        ({}, {"image"}),
        ({"image": None}, {"image"}),
        ({"image": ""}, {"image"}),
        ({"image": "a b"}, {"image"}),
        ({"command": "true"}, {"command"}),
        ({"command": [""]}, {"command"}),
        ({"command": ["a", 1]}, {"command.1"}),
        ({"python": "examples.ops.text:words", "command": ["a"]}, {"command"}),
        ({"python": "examples.ops.text:words", "image": "a"}, {"image"}),
        ({"python": "os:system"}, {"python"}),
        ({"python": "examples.ops.text"}, {"python"}),
        ({"python": "examples.ops.text:_hidden"}, {"python"}),
        ({"python": "examples.opsecret.text:words"}, {"python"}),
        ({"python": 5}, {"python"}),
    ],
)
def test_it_refuses_an_illegal_program(program: dict[str, Any], fields: set[str]):
    assert set(complaints(id="op", version="1", **program)) == fields


@pytest.mark.parametrize(
    ("alias", "kind"),
    [
        ("integer", "int"),
        ("number", "float"),
        ("boolean", "bool"),
        ("list", "array"),
        ("dict", "object"),
        ("string", "string"),
        ("any", "any"),
    ],
)
def test_it_stores_types_under_their_own_name(alias: str, kind: str):
    specs = read(command=["true"], input_specs={"x": {"type": alias}}).work.input_specs
    assert specs == {"x": {"type": kind, "required": True, "default": None}}


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "int", "default": True},
        {"type": "int", "default": 1.0},
        {"type": "int", "default": 11, "max": 10},
        {"type": "int", "default": 0, "min": 1},
        {"type": "string", "default": "c", "enum": ["a", "b"]},
        {"type": "bool", "default": 0},
        {"type": "array", "default": {}},
    ],
)
def test_a_default_must_fit_its_own_spec(spec: dict[str, Any]):
    assert set(complaints(id="op", version="1", command=["true"], input_specs={"x": spec})) == {
        "input_specs.x.default"
    }


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("int", ""),
        ({"type": "int", "min": 2, "max": 1}, ".min"),
        ({"type": "string", "min": 2}, ".min"),
        ({"type": "int", "max": "2"}, ".max"),
        ({"type": "int", "enum": []}, ".enum"),
        ({"type": "int", "enum": [1, "2"]}, ".enum.1"),
        ({"type": "int", "enum": 1}, ".enum"),
        ({"type": "int", "required": 1}, ".required"),
        ({"type": "int", "requird": True}, ".requird"),
        ({"type": ["int"]}, ".type"),
        ({"type": "int", "description": None}, ".description"),
    ],
)
def test_it_refuses_a_spec_that_makes_no_sense(spec: object, field: str):
    found = complaints(id="op", version="1", command=["true"], input_specs={"x": spec})
    assert set(found) == {f"input_specs.x{field}"}


def test_a_body_that_is_no_object_is_refused():
    with pytest.raises(Invalid):
        read_definition([], python_ops=[])
