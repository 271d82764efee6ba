from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apps.runs.executors import environment
from apps.runs.executors.base import LaunchSpec


def spec(**over: Any) -> LaunchSpec:
    fields: dict[str, Any] = {"env": {}, "inputs_json": b"{}", "attempt_id": "a", "run_id": "r"}
    return LaunchSpec(**(fields | {"attempt": 1} | over))


def test_variables_are_handed_on_only_by_name(monkeypatch):
    monkeypatch.setenv("WANTED", "1")
    monkeypatch.setenv("UNWANTED", "1")
    env = environment.base({"pass_env": ["WANTED", "ABSENT"], "env": {"EXTRA": "2"}})
    assert env["WANTED"] == "1"
    assert env["EXTRA"] == "2"
    assert not {"UNWANTED", "ABSENT"} & env.keys()


def test_the_definition_wins_over_the_operator_and_the_contract_over_both():
    given = spec(env={"A": "definition", "GYOZA_ATTEMPT": "99"})
    env = environment.for_op(given, Path("/x"), {"env": {"A": "operator", "B": "operator"}})
    assert (env["A"], env["B"], env["GYOZA_ATTEMPT"]) == ("definition", "operator", "1")


@pytest.mark.parametrize("where", ["definition", "operator"])
def test_gyoza_op_is_found_whatever_python_path_says(where):
    mine = {"PYTHONPATH": "/mine"}
    given = spec(env=mine if where == "definition" else {})
    env = environment.for_op(given, Path("/x"), {"env": mine if where == "operator" else {}})
    assert env["PYTHONPATH"] == f"{environment.SDK_DIR}:/mine"


def test_memory_is_limited_only_on_request():
    assert "memory" not in environment.limits(spec(ram_mb=5), {})
    assert "memory" not in environment.limits(spec(), {"limit_memory": True})
    assert environment.limits(spec(ram_mb=5), {"limit_memory": True})["memory"] == 5 * 2**20
