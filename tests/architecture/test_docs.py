"""Facts that stand in code and in prose are compared."""

from __future__ import annotations

from pathlib import Path

from apps.runs.states import FINAL, MOVES, RunState

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_picture_of_run_states_is_the_table():
    lines = ["stateDiagram-v2", "    [*] --> PENDING"]
    for state in RunState:
        lines += [f"    {state} --> {to}" for to in RunState if to in MOVES[state]]
    lines += [f"    {state} --> [*]" for state in RunState if state in FINAL]
    picture = "\n".join(["```mermaid", *lines, "```"])
    assert picture in (DOCS / "explanation" / "run-states.md").read_text("utf-8")
