"""Executions: list, get, cancel, retry, replay, approve, graph (pipelines-storage.md §3)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from apps.pipelines.execution import advancing
from tests.asserts import assert_problem
from tests.cast import client_for
from tests.contract.pipelines.conftest import complaints, refusal

pytestmark = pytest.mark.django_db

URL = "/api/v1/executions/"
CMD = {"command": ["true"]}


def start(api: Any, steps: Any = (), **run: Any) -> Any:
    pipeline = api.post(
        "/api/v1/pipelines/", {"name": "p", "id": f"team.{uuid4().hex}", "steps": steps}
    ).json()
    body = api.post(f"/api/v1/pipelines/{pipeline['id']}/run", run).json()
    advancing.advance_execution(body["id"])
    return body


def test_an_execution_is_found_by_id_and_by_tag(api):
    made = start(api, [{"name": "a", **CMD}], tag="nightly")
    by_id, by_tag = api.get(URL + made["id"]).json(), api.get(URL + "nightly/").json()
    assert by_id == by_tag
    assert by_id["stages"][0]["status"] == "initiated"
    assert len(by_id["stages"][0]["run_ids"]) == 1
    assert by_id["config_snapshot"]["steps"] == [{"name": "a", **CMD}]
    assert by_id["trigger"] is None
    runs = api.get(f"/runs?execution_id={made['id']}").json()["data"]
    assert [run["step"] for run in runs] == ["a"]
    plain = api.post("/runs", CMD).json()
    for told in ("retry_policy", "constraints", "event_delivery", "timeout_s"):
        assert runs[0][told] == plain[told], told


def test_one_that_completed_says_so(api):
    body = api.get(URL + start(api)["id"]).json()
    assert (body["status"], body["phase"]) == ("completed", "completed")
    assert body["completed_at"] is not None


def test_a_great_float_comes_out_as_one_and_can_be_posted_again(api):
    great = {"n": 1e22, "m": [1e16]}
    steps = [{"name": "a", **CMD, "inputs": {"n": {"$ref": "inputs.n"}}}]
    made = start(api, steps, inputs=great, metadata=great)
    got = api.get(URL + made["id"]).json()
    (run,) = api.get(f"/runs?execution_id={made['id']}").json()["data"]
    given_out = [got["inputs"]["n"], *got["metadata"]["m"], run["inputs"]["n"]]
    assert [(type(one), one) for one in given_out] == [(float, 1e22), (float, 1e16), (float, 1e22)]
    again = start(api, steps, inputs=got["inputs"], metadata=got["metadata"])
    assert again["inputs"] == great


@pytest.mark.parametrize("named", ["nope", str(uuid4()), "%00"])
def test_an_unknown_one_is_not_found(api, named):
    refusal(api.get(URL + named), 404, "not_found")


def test_the_list_counts_filters_and_pages(api):
    done = [start(api)["id"] for _ in range(3)]
    running = start(api, [{"name": "a", **CMD}], tag="r")["id"]
    page = api.get(URL + "?limit=2").json()
    assert (page["total"], page["limit"], page["offset"], page["has_more"]) == (4, 2, 0, True)
    assert [one["id"] for one in page["executions"]] == [running, done[2]]
    last = api.get(URL + "?limit=2&offset=2").json()
    assert ([one["id"] for one in last["executions"]], last["has_more"]) == (
        [done[1], done[0]],
        False,
    )
    assert api.get(URL + "?status=completed").json()["total"] == 3
    assert api.get(URL + "?status=completed&status=running").json()["total"] == 4
    assert api.get(URL + "?tag=r").json()["executions"][0]["id"] == running


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1", "status=nope"])
def test_a_bad_parameter_is_named(api, query):
    answer = api.get(URL + "?" + query)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", query.split("=", maxsplit=1)[0]]


def test_cancel_is_idempotent_and_refused_for_what_ended_otherwise(api):
    made = start(api, [{"name": "a", **CMD}])
    assert api.post(URL + made["id"] + "/cancel", {"reason": "enough"}).status_code == 200
    advancing.advance_execution(made["id"])
    body = api.post(URL + made["id"] + "/cancel").json()
    assert (body["status"], body["error_info"]) == ("cancelled", {"message": "enough"})
    refusal(api.post(URL + start(api)["id"] + "/cancel"), 409, "illegal_transition")


def test_what_completed_or_runs_can_t_be_retried(api):
    refusal(api.post(URL + start(api)["id"] + "/retry"), 409, "illegal_transition")
    running = start(api, [{"name": "a", **CMD}])
    refusal(api.post(URL + running["id"] + "/retry"), 409, "illegal_transition")


def test_a_run_of_an_ended_execution_is_retried_with_it(api):
    """What it wrote to storage by itself would be refused, and nobody would hear of it."""
    made = start(api, [{"name": "a", **CMD}])
    (run,) = api.get(f"/runs?execution_id={made['id']}").json()["data"]
    api.post(f"/runs/{run['id']}/cancel")
    assert api.post(f"/runs/{run['id']}/retry").status_code == 200
    api.post(f"/runs/{run['id']}/cancel")
    advancing.advance_execution(made["id"])
    assert api.get(URL + made["id"]).json()["status"] == "cancelled"
    answer = api.post(f"/runs/{run['id']}/retry")
    assert_problem(answer, 409, "conflict")
    assert answer.json()["error"]["detail"]["execution_id"] == made["id"]
    assert api.post(URL + made["id"] + "/retry").status_code == 200
    assert api.get(f"/runs/{run['id']}").json()["state"] == "PENDING"


def test_replay_makes_a_child(api):
    made = start(api, [{"name": "t", "adapter": "transform", "inputs": {"expr": "@", "data": 1}}])
    answer = api.post(URL + made["id"] + "/replay", {"from_stage": "t", "tag": "again"})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["parent_execution_id"], body["tag"]) == (made["id"], "again")
    assert set(complaints(api.post(URL + made["id"] + "/replay", {"from_stage": "no"}))) == {
        "from_stage"
    }
    assert set(complaints(api.post(URL + made["id"] + "/replay"))) == {"from_stage"}


def test_an_approval_is_given_once(api):
    made = start(api, [{"name": "ok/go", "adapter": "approve", "inputs": {"message": "go?"}}])
    assert api.get(URL + made["id"]).json()["stages"][0]["waiting_for"] == "go?"
    url = URL + made["id"] + "/stages/ok/go/approve"
    assert set(complaints(api.post(url, {"comment": "x"}))) == {"approved"}
    assert api.post(url, {"approved": False, "comment": "no"}).status_code == 200
    refusal(api.post(url, {"approved": True}), 409, "illegal_transition")
    advancing.advance_execution(made["id"])
    outputs = api.get(URL + made["id"]).json()["outputs"]
    assert outputs == {"ok/go": {"approved": False, "by": "anonymous", "comment": "no"}}
    refusal(api.post(URL + made["id"] + "/stages/zz/approve", {"approved": True}), 404, "not_found")


def test_the_graph_has_nodes_and_edges_with_states(api):
    steps = [{"name": "a", **CMD}, {"name": "b", "needs": ["a"], **CMD}]
    made = start(api, steps)
    assert api.get(URL + made["id"] + "/dag").json() == {
        "execution_id": made["id"],
        "status": "running",
        "nodes": [{"name": "a", "status": "initiated"}, {"name": "b", "status": "pending"}],
        "edges": [{"from": "a", "to": "b"}],
    }


def test_a_stranger_finds_nothing_and_a_reader_changes_nothing(owner, stranger, reader):
    made = start(client_for(owner), [{"name": "a", **CMD}])
    assert client_for(stranger).get(URL).json()["total"] == 0
    for path in ("", "/dag"):
        refusal(client_for(stranger).get(URL + made["id"] + path), 404, "not_found")
    for verb in ("cancel", "retry"):
        refusal(client_for(stranger).post(f"{URL}{made['id']}/{verb}"), 404, "not_found")
        refusal(client_for(reader).post(f"{URL}{made['id']}/{verb}"), 403, "forbidden")
