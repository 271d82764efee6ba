"""runs.md §2, bad input: integers beyond 64 bits are refused, and so none is ever given out. A float stays one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.runs import transitions
from apps.runs.services import reports
from apps.runs.states import EventType, RunState
from tests.cast import client_for
from tests.factories import make_run

pytestmark = pytest.mark.django_db

GREAT = {"a": 1e22, "b": [-1.5e300, 1e16], "c": {"d": 2**63 - 1, "e": 0.1}}
WRITTEN = {"inputs": GREAT, "metadata": GREAT, "command": ["true"]}


@pytest.fixture
def post(owner):
    def post(path: str, body: Any) -> Any:
        answer = client_for(owner).post(path, body, format="json")
        assert answer.status_code in {200, 201}, answer.content
        return answer.json()

    return post


def typed(value: Any) -> str:
    """Return a value so that 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True)


def test_what_a_run_is_given_out_with_can_be_posted_again(post, owner):
    made = post("/runs", WRITTEN)
    for path in (f"/runs/{made['id']}", "/runs?limit=1"):
        got = client_for(owner).get(path).json()
        run = got["data"][0] if "data" in got else got
        assert typed(run["inputs"]) == typed(run["metadata"]) == typed(GREAT)
        again = post("/runs", {**WRITTEN, "inputs": run["inputs"], "metadata": run["metadata"]})
        assert typed(again["inputs"]) == typed(GREAT)


def test_metadata_that_is_changed(post, owner):
    made = post("/runs", {"command": ["true"]})
    path = f"/runs/{made['id']}"
    assert client_for(owner).patch(path, {"metadata": GREAT}, format="json").status_code == 200
    assert typed(client_for(owner).get(path).json()["metadata"]) == typed(GREAT)


def test_outputs_and_payloads(owner):
    run = make_run(RunState.RUNNING, op_definition="team.op")
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        moves.note(live, EventType.INFO, "", GREAT)
        reports.finish(moves, live, outputs=GREAT, exit_code=0)
    got = client_for(owner).get(f"/runs/{run.id}").json()
    assert typed(got["outputs"]) == typed(GREAT)
    assert typed(got["events"][-2]["payload"]) == typed(GREAT)


def test_the_defaults_of_a_definition(post, owner):
    specs = {"n": {"type": "float", "required": False, "default": 1e22}}
    body = {"id": "team.op", "version": "1", "command": ["true"], "input_specs": specs}
    post("/definitions", body)
    got = client_for(owner).get("/definitions/team.op").json()
    assert typed(got["input_specs"]["n"]["default"]) == typed(1e22)
    post("/definitions", {**body, "input_specs": got["input_specs"]})
    assert typed(post("/definitions/team.op/runs", {"inputs": {}})["inputs"]) == typed({"n": 1e22})
