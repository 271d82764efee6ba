"""runs.md §2: POST /runs/batch."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.runs.models import Run
from tests.asserts import assert_problem
from tests.cast import client_for, make_key
from tests.factories import make_definition


def post(key: str, runs: Any, **headers: str) -> Any:
    return client_for(key).post("/runs/batch", {"runs": runs}, format="json", headers=headers)


@pytest.fixture
def op(db):
    make_definition("team.op", "1", input_specs={"n": {"type": "int"}})
    return make_definition("team.op", "2", input_specs={"n": {"type": "int", "default": 2}})


@pytest.mark.django_db
def test_both_forms_come_back_in_order(owner, op):
    answer = post(
        owner,
        [
            {"definition": "team.op"},
            {"definition": "team.op", "version": "1", "inputs": {"n": 1}},
            {"command": ["true"], "priority": 9},
        ],
    )
    assert answer.status_code == 201
    runs = answer.json()["data"]
    assert [run["op_version"] for run in runs] == ["2", "1", None]
    assert [run["inputs"] for run in runs] == [{"n": 2}, {"n": 1}, {}]
    assert [run["id"] for run in runs] == sorted(run["id"] for run in runs)
    assert "events" not in runs[0]


@pytest.mark.django_db
def test_one_bad_request_refuses_all_and_names_its_index(owner, op):
    answer = post(
        owner,
        [
            {"definition": "team.op"},
            {"definition": "team.op", "version": "1", "inputs": {"m": 1}},
            {"definition": "team.gone"},
            {"priority": 0},
            "run",
        ],
    )
    assert_problem(
        answer,
        400,
        "invalid_request",
        "runs.1.inputs.n",
        "runs.1.inputs.m",
        "runs.2.definition",
        "runs.3.image",
        "runs.4",
    )
    assert not Run.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("runs", [[], [{"definition": "team.op"}] * 1001, None, "x"])
def test_it_takes_one_to_a_thousand(owner, op, runs):
    assert_problem(post(owner, runs), 400, "invalid_request", "runs")


@pytest.mark.django_db
def test_a_thousand_cost_a_handful_of_queries(owner, op):
    with CaptureQueriesContext(connection) as captured:
        answer = post(owner, [{"definition": "team.op"}] * 1000)
    assert len(answer.json()["data"]) == Run.objects.count() == 1000
    assert len(captured) <= 10


@pytest.mark.django_db
def test_an_ad_hoc_member_needs_the_scope_admin(op):
    key = make_key("writer", "read+write")
    assert post(key, [{"definition": "team.op"}]).status_code == 201
    assert_problem(post(key, [{"definition": "team.op"}, {"command": ["x"]}]), 403, "forbidden")
    assert Run.objects.count() == 1


@pytest.mark.django_db
def test_a_reader_may_not(reader, op):
    assert_problem(post(reader, [{"definition": "team.op"}]), 403, "forbidden")


@pytest.mark.django_db
def test_to_a_stranger_the_definition_does_not_exist(stranger, op):
    assert_problem(
        post(stranger, [{"definition": "team.op"}]), 400, "invalid_request", "runs.0.definition"
    )


@pytest.mark.django_db
def test_a_repeat_under_an_idempotency_key_makes_no_more_runs(owner, op):
    headers = {"Idempotency-Key": "b"}
    first, again = (post(owner, [{"definition": "team.op"}] * 2, **headers) for _ in range(2))
    assert (first.json(), again.headers["Idempotent-Replay"]) == (again.json(), "true")
    assert Run.objects.count() == 2
