"""runs.md §2: PATCH, cancel and retry by people."""

from __future__ import annotations

from typing import Any

import pytest

from apps.access.models import AuditEntry
from apps.runs.models import Run
from apps.runs.states import RunState
from tests.asserts import assert_problem
from tests.cast import client_for
from tests.factories import make_run
from tests.pull_worker import PullWorker


def call(key: str, method: str, path: str, body: Any = None) -> Any:
    return getattr(client_for(key), method)(path, body, format="json")


def team_run(state: RunState = RunState.PENDING, **over: Any) -> Run:
    return make_run(state, op_definition="team.op", **over)


@pytest.mark.django_db
def test_priority_and_metadata_of_an_unfinished_run(owner):
    run = team_run()
    body = call(owner, "patch", f"/runs/{run.id}", {"priority": 9, "metadata": {"a": 1}}).json()
    assert (body["priority"], body["metadata"], body["events"]) == (9, {"a": 1}, [])
    assert body["updatedAt"] > body["createdAt"]


@pytest.mark.django_db
@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED])
def test_a_finished_run_has_no_priority_to_change(owner, state):
    run = team_run(state)
    assert_problem(call(owner, "patch", f"/runs/{run.id}", {"priority": 9}), 409, "conflict")
    body = call(owner, "patch", f"/runs/{run.id}", {"metadata": {"seen": True}}).json()
    assert body["metadata"] == {"seen": True}


@pytest.mark.django_db
def test_it_names_every_bad_field(owner):
    run = team_run()
    answer = call(
        owner,
        "patch",
        f"/runs/{run.id}",
        {"priority": "9", "metadata": 1, "state": "PENDING", "topic": "x"},
    )
    assert_problem(
        answer,
        400,
        "invalid_request",
        "priority",
        "metadata",
        "state",
        "attempt",
        "lease",
        "topic",
    )


@pytest.mark.django_db
def test_a_waiting_run_is_cancelled_at_once(owner):
    run = team_run()
    body = call(owner, "post", f"/runs/{run.id}/cancel", {"reason": "no need"}).json()
    assert (body["state"], body["events"][-1]["msg"]) == ("CANCELLED", "no need")
    again = call(owner, "post", f"/runs/{run.id}/cancel")
    assert (again.status_code, again.json()["state"]) == (200, "CANCELLED")
    assert AuditEntry.objects.filter(action="run.cancel").count() == 1


@pytest.mark.django_db
def test_a_running_op_is_asked_to_stop_first(owner, admin_key):
    run = team_run()
    worker = PullWorker(client_for(admin_key))
    worker.claim()
    worker.report(run.id, "STARTED")
    body = call(owner, "post", f"/runs/{run.id}/cancel").json()
    assert (body["state"], body["cancel_requested_at"] is None) == ("RUNNING", False)
    assert worker.heartbeat(run.id)["cancel"] == [str(run.id)]
    assert worker.report(run.id, "CANCELLED")["state"] == "CANCELLED"


@pytest.mark.django_db
@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED])
def test_what_has_finished_is_not_cancelled(owner, state):
    run = team_run(state)
    assert_problem(call(owner, "post", f"/runs/{run.id}/cancel"), 409, "illegal_transition")


@pytest.mark.django_db
@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_a_retry_is_the_next_attempt(owner, state):
    run = team_run(state)
    body = call(owner, "post", f"/runs/{run.id}/retry").json()
    assert (body["state"], body["current_attempt"], body["outputs"]) == ("PENDING", 2, {})
    assert [event["type"] for event in body["events"]] == ["RETRIED"]


@pytest.mark.django_db
@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.PENDING, RunState.RUNNING])
def test_other_runs_are_not_retried(owner, state):
    run = team_run(state)
    assert_problem(call(owner, "post", f"/runs/{run.id}/retry"), 409, "illegal_transition")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [("patch", "", {"priority": 1}), ("post", "/cancel", {}), ("post", "/retry", {})],
)
def test_a_reader_and_a_stranger_may_not(reader, stranger, method, tail, body):
    run = team_run(RunState.FAILED if tail == "/retry" else RunState.PENDING)
    assert_problem(call(reader, method, f"/runs/{run.id}{tail}", body), 403, "forbidden")
    assert_problem(call(stranger, method, f"/runs/{run.id}{tail}", body), 404, "not_found")
    assert Run.objects.get(pk=run.id).updated_at == run.updated_at


@pytest.mark.django_db
@pytest.mark.parametrize("tail", ["cancel", "retry"])
def test_unknown_members_are_refused(owner, tail):
    run = team_run()
    answer = call(owner, "post", f"/runs/{run.id}/{tail}", {"reasn": "x"})
    assert_problem(answer, 400, "invalid_request", "reasn")
