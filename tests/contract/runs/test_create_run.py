"""runs.md §2: POST /runs and POST /definitions/{name}/runs."""

from __future__ import annotations

from typing import Any

import pytest

from apps.runs.models import Run
from tests.asserts import assert_problem
from tests.cast import client_for, make_key
from tests.factories import make_definition


def post(key: str, path: str, body: Any, **headers: str) -> Any:
    return client_for(key).post(path, body, format="json", headers=headers)


@pytest.fixture
def classify(db):
    return make_definition(
        "team.classify",
        "1.0.0",
        command=["classify"],
        env={"A": "1"},
        input_specs={
            "image_path": {"type": "string"},
            "top_k": {"type": "int", "required": False, "default": 5, "min": 1},
        },
        constraints={"cpu": 2, "tags": ["ssd"]},
        retry_policy={"max_attempts": 3},
        event_delivery={"topic": "team.batch", "attributes": {"a": 1}},
        timeout_s=60,
    )


@pytest.mark.django_db
def test_a_run_of_a_definition_is_pending_with_everything_copied(owner, classify):
    answer = post(owner, "/definitions/team.classify/runs", {"inputs": {"image_path": "/x"}})
    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("createdAt") == body.pop("updatedAt")
    run = Run.objects.get(pk=body.pop("id"))
    assert run.env == {"A": "1"}
    assert body == {
        "state": "PENDING",
        "priority": 5,
        "progress": 0,
        "current_attempt": 1,
        "image": None,
        "command": ["classify"],
        "python": None,
        "inputs": {"image_path": "/x", "top_k": 5},
        "outputs": {},
        "op_definition": "team.classify",
        "op_version": "1.0.0",
        "constraints": {
            "cpu": 2,
            "ram_mb": None,
            "vram_mb": None,
            "gpu_id": None,
            "tags": ["ssd"],
        },
        "retry_policy": {
            "max_attempts": 3,
            "backoff": "exponential",
            "delay_s": 1,
            "max_delay_s": 60,
            "jitter": 0.1,
        },
        "event_delivery": {"topic": "team.batch", "attributes": {"a": 1}},
        "timeout_s": 60,
        "execution_summary": {
            "duration_ms": None,
            "worker_id": None,
            "error_message": None,
            "gpu_id": None,
            "exit_code": None,
        },
        "started_at": None,
        "finished_at": None,
        "scheduled_at": None,
        "cancel_requested_at": None,
        "metadata": {},
        "execution_id": None,
        "step": None,
    }


@pytest.mark.django_db
def test_a_run_may_override_what_belongs_to_it(owner, classify):
    answer = post(
        owner,
        "/definitions/team.classify/runs?version=1.0.0",
        {
            "inputs": {"image_path": "/x", "top_k": 1},
            "priority": -1000,
            "event_delivery": {"topic": "team.other"},
            "metadata": {"who": "me"},
            "scheduled_at": "2030-01-01T00:00:00+02:00",
            "timeout_s": None,
        },
    ).json()
    assert answer["event_delivery"] == {"topic": "team.other", "attributes": {"a": 1}}
    assert (answer["priority"], answer["metadata"]) == (-1000, {"who": "me"})
    assert answer["scheduled_at"] == "2029-12-31T22:00:00.000000Z"
    assert answer["timeout_s"] is None


@pytest.mark.django_db
def test_it_names_every_bad_input_and_stores_nothing(owner, classify):
    answer = post(
        owner,
        "/definitions/team.classify/runs",
        {
            "inputs": {"top_k": "5", "size": 1},
            "priority": 1001,
            "scheduled_at": "tomorrow",
            "timeout_s": -1,
            "metadata": [],
            "event_delivery": {"topic": "no topic"},
            "image": "x",
        },
    )
    assert_problem(
        answer,
        400,
        "invalid_request",
        "inputs.image_path",
        "inputs.top_k",
        "inputs.size",
        "priority",
        "scheduled_at",
        "timeout_s",
        "metadata",
        "event_delivery.topic",
        "image",
    )
    assert not Run.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_an_int_input_takes_integers_only(owner, classify, value):
    inputs = {"image_path": "/x", "top_k": value}
    answer = post(owner, "/definitions/team.classify/runs", {"inputs": inputs})
    assert_problem(answer, 400, "invalid_request", "inputs.top_k")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["team.none", "team.classify/runs?version=2", "other.op"])
def test_an_unknown_definition_is_not_found(owner, classify, path):
    path = path if "/runs" in path else f"{path}/runs"
    assert_problem(post(owner, f"/definitions/{path}", {}), 404, "not_found")


@pytest.mark.django_db
def test_to_a_stranger_the_definition_does_not_exist(stranger, classify):
    assert_problem(post(stranger, "/definitions/team.classify/runs", {}), 404, "not_found")


@pytest.mark.django_db
def test_a_reader_may_not(reader, classify):
    assert_problem(post(reader, "/definitions/team.classify/runs", {}), 403, "forbidden")
    assert_problem(post(reader, "/runs", {"command": ["true"]}), 403, "forbidden")


@pytest.mark.django_db
def test_a_topic_outside_the_prefixes_is_forbidden(owner, classify):
    body = {"inputs": {"image_path": "/x"}, "event_delivery": {"topic": "other.t"}}
    assert_problem(post(owner, "/definitions/team.classify/runs", body), 403, "forbidden")


@pytest.mark.django_db
def test_an_ad_hoc_run_says_everything_itself(owner):
    body = {
        "image": "busybox",
        "command": ["echo"],
        "env": {"A": "b"},
        "inputs": {"any": [1, None]},
        "constraints": {"ram_mb": 512},
        "retry_policy": {"backoff": "fixed"},
        "event_delivery": {"topic": "team.t"},
        "output_specs": {"n": {"type": "int"}},
        "timeout_s": 1.5,
        "priority": 7,
    }
    answer = post(owner, "/runs", body)
    assert answer.status_code == 201
    run = answer.json()
    assert (run["op_definition"], run["op_version"]) == (None, None)
    assert (run["image"], run["command"], run["timeout_s"]) == ("busybox", ["echo"], 1.5)
    assert run["constraints"]["ram_mb"] == 512
    assert run["retry_policy"]["backoff"] == "fixed"
    assert Run.objects.get(pk=run["id"]).output_specs == {"n": {"type": "int"}}


@pytest.mark.django_db
def test_an_ad_hoc_run_needs_the_scope_admin(db):
    key = make_key("writer", "read+write")
    assert_problem(post(key, "/runs", {"command": ["true"]}), 403, "forbidden")


@pytest.mark.django_db
def test_an_ad_hoc_run_needs_something_to_do(owner):
    answer = post(owner, "/runs", {"definition": "team.classify", "tags": []})
    assert_problem(answer, 400, "invalid_request", "definition", "image", "tags")


@pytest.mark.django_db
def test_a_repeat_under_an_idempotency_key_makes_no_second_run(owner, classify):
    body = {"inputs": {"image_path": "/x"}}
    path = "/definitions/team.classify/runs"
    headers = {"Idempotency-Key": "k"}
    first, again = (post(owner, path, body, **headers) for _ in range(2))
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"
    assert_problem(post(owner, path, {}, **headers), 409, "idempotency_conflict")
    assert Run.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "x" * 257])
def test_an_idempotency_key_has_1_to_256_bytes(owner, classify, key):
    path, body = "/definitions/team.classify/runs", {"inputs": {"image_path": "/x"}}
    answer = post(owner, path, body, **{"Idempotency-Key": key})
    assert_problem(answer, 400, "invalid_request", "Idempotency-Key")
    assert not Run.objects.exists()
