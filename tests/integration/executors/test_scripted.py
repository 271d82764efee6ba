from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from apps.runs.executors.base import LaunchSpec, Message, Outcome
from tests.fakes.scripted_executor import Script, ScriptedExecutor
from tests.integration.executors.contract import Contract

if TYPE_CHECKING:
    from pathlib import Path

TOLD = (
    Message("progress", 0.0, value=40),
    Message("info", 0.0, msg="half way", payload={"rows": 5}),
    Message("output", 0.0, name="rows", value=5),
    Message("output", 0.0, name="both", value="said"),
)
WAITING = (Message("info", 0.0, msg="waiting", payload={}),)
DONE = Outcome(exit_code=0, outputs={})
REASONS = "\n".join(f"reason {n}" for n in range(10, 30))


def play(spec: LaunchSpec) -> Script:
    inputs = json.loads(spec.inputs_json)
    assert spec.command is not None
    scripts = {
        "double": Script(ends=Outcome(exit_code=0, outputs={"doubled": inputs.get("n", 0) * 2})),
        "nothing": Script(ends=DONE),
        "count": Script(ends=DONE),
        "store": Script(log=b"stored\n", ends=DONE),
        "speak": Script(log=b"to stdout\nto stderr\nby number \xff\xfe\n", ends=DONE),
        "fail": Script(ends=Outcome(exit_code=3, error=REASONS)),
        "die": Script(ends=Outcome(signal=9, error="killed by signal 9 (SIGKILL)")),
        "tell": Script(
            log=b"a line of log\n",
            messages=TOLD,
            ends=Outcome(exit_code=0, outputs={"rows": 5, "both": "returned"}),
        ),
        "wait": Script(log=b"cleaned up\n", messages=WAITING),
        "resist": Script(messages=WAITING, is_stubborn=True),
    }
    return scripts[spec.command[0]]


class TestScriptedExecutor(Contract):
    def make(self, root: Path) -> ScriptedExecutor:
        self.world: dict[str, Any] = getattr(self, "world", {})
        return ScriptedExecutor(root, {"script": play, "world": self.world})

    def op(self, name: str) -> dict[str, Any]:
        return {"command": (name,)}
