"""runs.md §2: POST /definitions."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection

from apps.access.models import AuditEntry
from apps.definitions.models import Definition
from tests.asserts import assert_problem
from tests.cast import client_for
from tests.factories import make_definition

BODY = {
    "id": "team.classify",
    "version": "1.0.0",
    "command": ["python", "-m", "classify"],
    "input_specs": {
        "image_path": {"type": "string"},
        "top_k": {"type": "integer", "required": False, "default": 5, "min": 1},
    },
    "event_delivery": {"topic": "team.batch", "attributes": {"a": 1}},
}


def post(key: str, body: Any = BODY, **headers: str) -> Any:
    return client_for(key).post("/definitions", body, format="json", headers=headers)


@pytest.mark.django_db
def test_it_answers_the_whole_definition(owner):
    answer = post(owner)
    assert answer.status_code == 201
    body = answer.json()
    created_at = body.pop("created_at")
    assert created_at.endswith("Z")
    assert body == {
        "id": "team.classify",
        "version": "1.0.0",
        "description": "",
        "image": None,
        "command": ["python", "-m", "classify"],
        "python": None,
        "env": {},
        "input_specs": {
            "image_path": {"type": "string", "required": True, "default": None},
            "top_k": {"type": "int", "required": False, "default": 5, "min": 1},
        },
        "output_specs": {},
        "constraints": {"cpu": None, "ram_mb": None, "vram_mb": None, "gpu_id": None, "tags": []},
        "retry_policy": {
            "max_attempts": 1,
            "backoff": "exponential",
            "delay_s": 1,
            "max_delay_s": 60,
            "jitter": 0.1,
        },
        "event_delivery": {"topic": "team.batch", "attributes": {"a": 1}},
        "timeout_s": 3600,
    }


@pytest.mark.django_db
def test_posting_it_again_replaces_it_and_makes_it_the_latest(owner):
    post(owner)
    post(owner, {**BODY, "version": "2.0.0"})
    answer = post(owner, {**BODY, "description": "better"})
    assert (answer.status_code, answer.json()["description"]) == (200, "better")
    latest = client_for(owner).get("/definitions/team.classify").json()
    assert (latest["version"], latest["description"]) == ("1.0.0", "better")
    assert Definition.objects.count() == 2


@pytest.mark.django_db
def test_it_leaves_an_audit_entry(owner):
    post(owner)
    entry = AuditEntry.objects.get(action="definition.deploy")
    assert (entry.target, entry.actor_name) == ("team.classify@1.0.0", "owner")


@pytest.mark.django_db
def test_it_names_every_bad_field_and_stores_nothing(owner):
    answer = post(
        owner,
        {
            "id": "team x",
            "command": [],
            "input_specs": {"k": {"type": "int", "default": "5"}},
            "x": 1,
        },
    )
    assert_problem(
        answer, 400, "invalid_request", "id", "version", "command", "input_specs.k.default", "x"
    )
    assert not Definition.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("python", ["os:system", "examples.opsx.a:b", "examples.ops.a:_b"])
def test_a_python_op_outside_the_allow_list_is_refused(owner, python):
    answer = post(owner, {"id": "team.py", "version": "1", "python": python})
    assert_problem(answer, 400, "invalid_request", "python")


@pytest.mark.django_db
def test_a_repeat_under_an_idempotency_key_answers_the_first_result(owner):
    first = post(owner, **{"Idempotency-Key": "k"})
    again = post(owner, **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    other = post(owner, {**BODY, "version": "2"}, **{"Idempotency-Key": "k"})
    assert_problem(other, 409, "idempotency_conflict")
    assert Definition.objects.count() == 1


@pytest.mark.django_db
def test_a_reader_may_not(reader):
    assert_problem(post(reader), 403, "forbidden")


@pytest.mark.django_db
def test_a_stranger_may_not_deploy_under_the_teams_names(stranger):
    assert_problem(post(stranger), 403, "forbidden")
    assert not Definition.objects.exists()


@pytest.mark.django_db
def test_a_topic_outside_the_keys_prefixes_is_refused(owner):
    delivery = {"topic": "other.batch"}
    assert_problem(post(owner, {**BODY, "event_delivery": delivery}), 403, "forbidden")


@pytest.mark.django_db(transaction=True)
def test_deployments_at_once_get_numbers_of_their_own():
    barrier = threading.Barrier(6)

    def deploy(number):
        try:
            barrier.wait()
            make_definition(version=str(number % 3))
        finally:
            connection.close()

    threads = [threading.Thread(target=deploy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = list(Definition.objects.order_by("deployment").values_list("deployment", flat=True))
    assert len(set(numbers)) == 3
    assert max(numbers) == 6
