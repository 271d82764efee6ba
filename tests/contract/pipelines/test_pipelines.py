"""Pipelines: create, list, get, replace, delete, validate, run (pipelines-storage.md §1)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import client_for
from tests.contract.pipelines.conftest import complaints, refusal

pytestmark = pytest.mark.django_db

URL = "/api/v1/pipelines/"
CMD = {"command": ["true"]}
DOCUMENT = {
    "id": "team.orders",
    "name": "Orders",
    "options": {"event": "team.orders", "custom": {"kept": True}},
    "steps": [{"name": "a", **CMD}],
    "metadata": {"owner": "x"},
    "tags": ["t"],
}


def post(api: Any, **over: Any) -> Any:
    return api.post(URL, {**DOCUMENT, **over})


def test_it_creates_a_pipeline_and_answers_what_was_written(api):
    answer = post(api)
    assert answer.status_code == 201
    body = answer.json()
    assert {**DOCUMENT, "version": "1"}.items() <= body.items()
    assert list(body) == [
        "id",
        "name",
        "version",
        "options",
        "steps",
        "metadata",
        "tags",
        "created_at",
        "updated_at",
    ]


def test_an_id_is_made_when_none_is_given(api):
    body = api.post(URL, {"name": "x"}).json()
    assert body["id"].startswith("pipeline-")
    assert len(body["id"]) == len("pipeline-") + 32


def test_an_id_that_is_taken_is_a_conflict(api):
    post(api)
    assert refusal(post(api), 409, "pipeline_exists")


def test_an_id_that_no_path_would_reach_is_refused(api):
    assert set(complaints(post(api, id="validate"))) == {"id"}
    assert post(api, id="validated").status_code == 201


def test_slashes_may_be_added_or_left_out(api):
    assert api.post(URL[:-1], DOCUMENT).status_code == 201
    assert api.get(URL + "team.orders").status_code == 200
    assert api.get(URL + "team.orders/").status_code == 200
    assert api.get(URL[:-1]).status_code == 200


def test_yaml_is_read_where_json_is(api):
    text = "name: y\nsteps:\n  - name: a\n    command: [echo, hi]\n"
    answer = api.generic("POST", URL, text, content_type="application/yaml")
    assert answer.status_code == 201
    assert answer.json()["steps"] == [{"name": "a", "command": ["echo", "hi"]}]


def test_the_expression_of_a_transform_is_checked_when_it_is_saved(api):
    step = {"name": "a", "adapter": "transform", "inputs": {"expr": "[["}}
    answer = api.post(URL, {"name": "p", "steps": [step]})
    assert answer.status_code == 422
    [complaint] = answer.json()["detail"]
    assert complaint["loc"] == ["body", "steps", 0, "inputs", "expr"]
    assert complaint["msg"].startswith("is not JMESPath")


def test_ten_mistakes_get_ten_messages_with_their_places(api):
    found = complaints(
        post(
            api,
            id="-x",
            name="",
            options={
                "schedule": "*/5 * * *",
                "timezone": "Berlin",
                "on_failure": "?",
                "trigger": {
                    "rate_limit": "fast",
                    "filter": [{"field": "x", "op": "eq", "value": 1}],
                },
            },
            steps=[
                {"name": "a", "op": "no.such"},
                {"name": "a", "needs": ["nope"], **CMD},
                {"name": "b/../c", **CMD},
                {"name": "d", "adapter": "transform", "inputs": {"exp": "x"}, "when": "foo["},
            ],
            typo=1,
        )
    )
    assert set(found) == {
        "id",
        "name",
        "options.schedule",
        "options.timezone",
        "options.on_failure",
        "options.trigger.rate_limit",
        "options.trigger.filter.0.field",
        "steps.0.op",
        "steps.1.name",
        "steps.1.needs.0",
        "steps.2.name",
        "steps.3.inputs.exp",
        "steps.3.inputs.expr",
        "steps.3.when",
        "typo",
    }
    assert api.get(URL).json()["items"] == []


@pytest.mark.parametrize(
    ("work", "place"),
    [
        ({"command": []}, "command"),
        ({"command": [""]}, "command"),
        ({"image": ""}, "image"),
        ({"python": ""}, "python"),
    ],
)
def test_a_step_that_names_nothing_to_run_is_refused(api, work, place):
    assert set(complaints(post(api, steps=[{"name": "a", **work}]))) == {f"steps.0.{place}"}


def test_a_cycle_is_named(api):
    steps = [{"name": "a", "needs": ["b"], **CMD}, {"name": "b", "needs": ["a"], **CMD}]
    assert complaints(post(api, steps=steps)) == {
        "steps": "the steps wait for each other: a → b → a"
    }


@pytest.mark.parametrize("field", ["", ".", "data.", "x", 5, None])
def test_a_filter_of_no_field_is_refused(api, field):
    trigger = {"filter": [{"field": field, "op": "eq", "value": 1}]}
    found = complaints(post(api, options={"event": "team.orders", "trigger": trigger}))
    assert set(found) == {"options.trigger.filter.0.field"}


@pytest.mark.parametrize("start", ["newest", -1, 1.0, True, None, 2**63])
def test_a_start_is_the_latest_the_earliest_or_a_seq(api, start):
    answer = post(api, options={"event": "team.orders", "trigger": {"start": start}})
    if start != 2**63:  # beyond 64 bits, it isn't even JSON here
        assert "seq" in complaints(answer)["options.trigger.start"]
    assert answer.status_code == 422


def test_inputs_of_a_known_op_are_checked_when_saving(api):
    spec = {"id": "team.op", "version": "1", "input_specs": {"n": {"type": "int"}}, **CMD}
    client_for().post("/definitions", spec)
    steps = [{"name": "a", "op": "team.op@1", "inputs": {"n": "x", "m": 1}}]
    assert complaints(post(api, steps=steps)) == {
        "steps.0.inputs.m": "is not an input of this op",
        "steps.0.inputs.n": 'must be an integer, got "x"',
    }
    steps = [{"name": "a", "op": "team.op", "inputs": {"n": {"$ref": "inputs.n"}}}]
    assert post(api, steps=steps).status_code == 201


def test_put_makes_a_new_version_and_keeps_the_old(api):
    post(api)
    answer = api.put(URL + "team.orders", {"name": "Second"})
    assert (answer.status_code, answer.json()["version"]) == (200, "2")
    assert api.get(URL + "team.orders").json()["name"] == "Second"
    assert api.get(URL + "team.orders?version=1").json()["name"] == "Orders"
    versions = api.get(URL + "team.orders/versions").json()["items"]
    assert [one["version"] for one in versions] == ["2", "1"]


def test_what_get_answers_can_be_put_back(api):
    post(api)
    body = api.get(URL + "team.orders").json()
    again = api.put(URL + "team.orders", body).json()
    for name in ("version", "updated_at"):
        body.pop(name), again.pop(name)
    assert again == body


def test_put_of_another_id_is_refused(api):
    post(api)
    assert complaints(api.put(URL + "team.orders", {"id": "other", "name": "x"}))


@pytest.mark.parametrize("version", ["9", "x", "-1", "99999999999999999999"])
def test_an_unknown_version_is_not_found(api, version):
    post(api)
    refusal(api.get(URL + f"team.orders?version={version}"), 404, "version_not_found")


@pytest.mark.parametrize("path", ["nope", "nope/versions", "nope?version=1"])
def test_an_unknown_pipeline_is_not_found(api, path):
    refusal(api.get(URL + path), 404, "not_found")


def test_the_list_is_paged_by_token(api):
    for number in range(5):
        post(api, id=f"team.p{number}", name="even" if number % 2 == 0 else "odd")
    first = api.get(URL + "?limit=2").json()
    assert [one["id"] for one in first["items"]] == ["team.p0", "team.p1"]
    second = api.get(URL + f"?limit=2&token={first['token']}").json()
    assert [one["id"] for one in second["items"]] == ["team.p2", "team.p3"]
    last = api.get(URL + f"?limit=2&token={second['token']}").json()
    assert ([one["id"] for one in last["items"]], last["token"]) == (["team.p4"], None)
    assert len(api.get(URL + "?name=even").json()["items"]) == 3
    assert len(api.get(URL + "?event=team.orders").json()["items"]) == 5
    assert api.get(URL + "?event=nothing").json()["items"] == []


def test_a_bad_token_is_named(api):
    answer = api.get(URL + "?token=x")
    assert answer.status_code == 422
    assert [one["loc"] for one in answer.json()["detail"]] == [["query", "token"]]


def test_delete_removes_it_and_is_then_not_found(api):
    post(api)
    assert api.delete(URL + "team.orders").json() == {"id": "team.orders", "deleted": True}
    refusal(api.delete(URL + "team.orders"), 404, "not_found")


def test_delete_is_refused_while_an_execution_runs_unless_forced(api):
    post(api)
    execution = api.post(URL + "team.orders/run").json()
    refusal(api.delete(URL + "team.orders"), 409, "pipeline_in_use")
    assert api.delete(URL + "team.orders?force=true").status_code == 200
    assert api.get(f"/api/v1/executions/{execution['id']}").json()["phase"] == "cancelling"


def test_validate_reports_and_saves_nothing(api):
    good = api.post(URL + "validate", DOCUMENT)
    assert (good.status_code, good.json()) == (200, {"valid": True, "errors": []})
    bad = api.post(URL + "validate", {"steps": [{"name": "a"}]}).json()
    assert bad["valid"] is False
    assert {one["path"] for one in bad["errors"]} == {"name", "steps.0.op"}
    assert api.get(URL).json()["items"] == []


def test_validate_of_a_pipeline_takes_its_newest_version_without_a_body(api):
    post(api)
    assert api.post(URL + "team.orders/validate").json()["valid"] is True
    assert api.post(URL + "team.orders/validate", {"name": 1}).json()["valid"] is False


def test_run_starts_an_execution(api):
    post(api)
    answer = api.post(URL + "team.orders/run", {"inputs": {"x": 1}, "tag": "first"})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["status"], body["tag"], body["inputs"]) == ("running", "first", {"x": 1})
    assert (body["pipeline_id"], body["pipeline_version"]) == ("team.orders", "1")
    assert [stage["status"] for stage in body["stages"]] == ["pending"]


def test_run_answers_the_same_for_the_same_key(api):
    post(api)
    first = api.post(URL + "team.orders/run", HTTP_IDEMPOTENCY_KEY="k")
    again = api.post(URL + "team.orders/run", HTTP_IDEMPOTENCY_KEY="k")
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replay"] == "true"


@pytest.mark.parametrize(
    "tag", ["", "a/b", "a,b", "\t", "01890a5d-ac96-774b-bcce-b302099a8057", "x" * 256, 5]
)
def test_a_tag_that_is_none_is_refused(api, tag):
    post(api)
    assert set(complaints(api.post(URL + "team.orders/run", {"tag": tag}))) == {"tag"}


def test_a_tag_is_taken_for_ever(api):
    post(api)
    api.post(URL + "team.orders/run", {"tag": "t"})
    refusal(api.post(URL + "team.orders/run", {"tag": "t"}), 409, "tag_taken")


def test_run_of_an_unknown_version_or_pipeline_is_not_found(api):
    post(api)
    refusal(api.post(URL + "team.orders/run", {"version": "7"}), 404, "version_not_found")
    refusal(api.post(URL + "nope/run"), 404, "not_found")


def test_a_stranger_sees_and_changes_nothing(owner, stranger):
    assert post(client_for(owner)).status_code == 201
    other = client_for(stranger)
    assert other.get(URL).json()["items"] == []
    for method, path in (
        ("get", "team.orders"),
        ("put", "team.orders"),
        ("delete", "team.orders"),
        ("post", "team.orders/run"),
        ("post", "team.orders/validate"),
        ("get", "team.orders/versions"),
    ):
        answer = getattr(other, method)(URL + path, {"name": "x"} if method == "put" else None)
        refusal(answer, 404, "not_found")
    refusal(post(other, id="team.more"), 403, "forbidden")
    refusal(post(other, id="other.x"), 403, "forbidden")  # its event topic is the team's


def test_a_reader_changes_nothing(owner, reader):
    post(client_for(owner))
    looks = client_for(reader)
    assert looks.get(URL + "team.orders").status_code == 200
    refusal(post(looks, id="team.more"), 403, "forbidden")
    refusal(looks.put(URL + "team.orders", {"name": "x"}), 403, "forbidden")
    refusal(looks.delete(URL + "team.orders"), 403, "forbidden")
    refusal(looks.post(URL + "team.orders/run"), 403, "forbidden")


def test_without_a_key_nobody_gets_in(owner):
    refusal(client_for().get(URL), 401, "unauthorized")
