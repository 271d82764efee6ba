"""A run's state is written by transitions.py alone (house rule; docs/adr/0002)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

APPS = Path(__file__).resolve().parents[2] / "apps"
WRITERS = {APPS / "runs" / "transitions.py"}
UPDATES = {"update", "create", "bulk_update", "bulk_create", "update_or_create", "get_or_create"}
# States of other things, given when the row is made (never changed that way).
ALLOWED_CALLS = {APPS / "runs" / "turns.py": {"update_or_create"}}


def sources() -> list[Path]:
    return [p for p in sorted(APPS.rglob("*.py")) if "migrations" not in p.parts]


def writes_of_state(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            # self.state is an object's own attribute, not a row's.
            if (
                isinstance(target, ast.Attribute)
                and target.attr == "state"
                and not (isinstance(target.value, ast.Name) and target.value.id == "self")
            ):
                found.append(f"{path}:{target.lineno}: .state =")
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in UPDATES - ALLOWED_CALLS.get(path, set())
            and any(keyword.arg == "state" for keyword in node.keywords)
        ):
            found.append(f"{path}:{node.lineno}: {node.func.attr}(state=)")
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(APPS)))
def test_nobody_else_writes_a_state(path):
    if path not in WRITERS:
        assert writes_of_state(path) == []


def test_sql_that_writes_a_run_is_executed_by_transitions_only():
    writing = {
        path.stem
        for path in APPS.glob("runs/sql/*.sql")
        if re.search(r"UPDATE runs_run\b", path.read_text("utf-8"))
    }
    assert writing == {"write_moves"}
    callers = [p for p in sources() if "runs/write_moves" in p.read_text("utf-8")]
    assert callers == [APPS / "runs" / "transitions.py"]
