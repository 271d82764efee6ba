"""runs.md §2: POST /runs/{id}/events and PATCH /runs/{id} by the executing worker."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from apps.access.services import issue_run_token
from apps.runs.models import Run
from apps.runs.states import RunState
from tests.asserts import assert_problem
from tests.cast import client_for, make_key
from tests.factories import make_run
from tests.pull_worker import PullWorker


@pytest.fixture
def run(db):
    return make_run(op_definition="team.op", output_specs={"rows": {"type": "int"}})


@pytest.fixture
def worker(admin_key, run):
    worker = PullWorker(client_for(admin_key))
    worker.claim()
    return worker


@pytest.mark.django_db
def test_a_run_from_claim_to_completion(worker, run):
    started = worker.report(run.id, "STARTED")
    assert (started["id"], started["state"]) == (1, "RUNNING")
    assert worker.report(run.id, "PROGRESS", 50, payload={"a": 1})["payload"] == {"a": 1}
    assert worker.report(run.id, "INFO", "half")["msg"] == "half"
    done = worker.report(run.id, "COMPLETED", outputs={"rows": 3})
    assert done["state"] == "COMPLETED"
    stored = Run.objects.get(pk=run.id)
    assert (stored.state, stored.progress, stored.outputs) == ("COMPLETED", 100, {"rows": 3})


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED"])
def test_an_end_says_what_its_worker_said(worker, run, end):
    worker.report(run.id, "STARTED")
    said = {"exit_code": 3, "trace": "t1"}
    entry = worker.report(run.id, end, "so it was", payload=said, outputs={"rows": 1})
    assert (entry["type"], entry["msg"], entry["payload"]) == (end, "so it was", said)
    stored = worker.client.get(f"/runs/{run.id}").json()
    assert stored["events"][-1] == entry
    assert stored["execution_summary"]["exit_code"] == 3


@pytest.mark.django_db
def test_what_explains_a_retry_says_what_the_worker_said(admin_key):
    run = make_run(retry_policy={"max_attempts": 2})
    worker = PullWorker(client_for(admin_key))
    worker.claim()
    worker.report(run.id, "STARTED")
    entry = worker.report(run.id, "FAILED", "boom", payload={"exit_code": "odd", "trace": "t1"})
    assert (entry["type"], entry["payload"]["trace"]) == ("ERROR", "t1")
    first = worker.client.get(f"/runs/{run.id}/attempts/1").json()
    assert first["execution_summary"]["exit_code"] is None


@pytest.mark.django_db
def test_outputs_that_break_their_specs_fail_the_attempt(worker, run):
    worker.report(run.id, "STARTED")
    worker.report(run.id, "COMPLETED", outputs={"rows": "3"})
    stored = Run.objects.get(pk=run.id)
    assert stored.state == RunState.FAILED
    assert "outputs.rows" in stored.error_message


@pytest.mark.django_db
def test_state_and_outputs_by_patch(worker, run):
    attempt, lease = worker.leases[str(run.id)]
    proof = {"attempt": attempt, "lease": lease}

    def patch(**members: Any) -> Any:
        return worker.client.patch(f"/runs/{run.id}", members, format="json")

    assert patch(state="RUNNING", **proof).json()["state"] == "RUNNING"
    assert patch(outputs={"rows": 1}, **proof).json()["outputs"] == {"rows": 1}
    assert_problem(patch(state="RUNNING", **proof), 409, "illegal_transition")
    assert_problem(patch(state="COMPLETED", attempt=1, lease="x"), 409, "stale_lease")
    assert patch(state="COMPLETED", outputs={"more": 2}, **proof).json()["outputs"] == {
        "rows": 1,
        "more": 2,
    }


@pytest.mark.django_db
def test_a_stale_report_is_refused(worker, run):
    worker.report(run.id, "STARTED")
    assert_problem(worker.event(run.id, "INFO", "x", lease="other"), 409, "stale_lease")
    assert_problem(worker.event(run.id, "INFO", "x", attempt=2), 409, "stale_lease")
    worker.report(run.id, "COMPLETED", outputs={"rows": 1})
    assert_problem(worker.event(run.id, "FAILED", "late"), 409, "stale_lease")
    assert Run.objects.get(pk=run.id).state == "COMPLETED"


@pytest.mark.django_db
def test_an_illegal_move_is_refused(worker, run):
    assert_problem(worker.event(run.id, "COMPLETED"), 409, "illegal_transition")
    assert Run.objects.get(pk=run.id).state == "ASSIGNED"


@pytest.mark.django_db
def test_it_names_every_bad_field(worker, run):
    body = {"type": "PROGRESS", "msg": 101, "payload": [], "attempt": "1", "x": 1}
    answer = worker.client.post(f"/runs/{run.id}/events", body, format="json")
    assert_problem(answer, 400, "invalid_request", "msg", "payload", "attempt", "lease", "x")
    for type_ in ("ASSIGNED", "RETRIED", "DONE", 5, None):
        answer = worker.client.post(
            f"/runs/{run.id}/events", {"type": type_, "attempt": 1, "lease": "x"}, format="json"
        )
        assert_problem(answer, 400, "invalid_request", "type")


@pytest.mark.django_db
def test_a_key_with_write_may_report_with_the_lease(worker, run):
    worker.client = client_for(make_key("writer", "read+write"))
    assert worker.report(run.id, "STARTED")["state"] == "RUNNING"


@pytest.mark.django_db
def test_a_reader_and_a_stranger_may_not(worker, run, reader, stranger):
    worker.client = client_for(reader)
    assert_problem(worker.event(run.id, "STARTED"), 403, "forbidden")
    worker.client = client_for(stranger)
    assert_problem(worker.event(run.id, "STARTED"), 404, "not_found")


@pytest.mark.django_db
def test_an_op_speaks_for_its_own_attempt_without_a_lease(worker, run):
    worker.report(run.id, "STARTED")
    op = client_for(issue_run_token(run.id, 1))
    answer = op.post(f"/runs/{run.id}/events", {"type": "PROGRESS", "msg": 7}, format="json")
    assert (answer.status_code, answer.json()["msg"]) == (201, 7)
    answer = op.post(f"/runs/{run.id}/events", {"type": "COMPLETED"}, format="json")
    assert_problem(answer, 400, "invalid_request", "type")
    former = client_for(issue_run_token(run.id, 2))
    answer = former.post(f"/runs/{run.id}/events", {"type": "INFO", "msg": "x"}, format="json")
    assert_problem(answer, 409, "stale_lease")
    foreign = op.post(f"/runs/{uuid4()}/events", {"type": "INFO", "msg": "x"}, format="json")
    assert_problem(foreign, 404, "not_found")


@pytest.mark.django_db
def test_a_repeat_under_an_idempotency_key_adds_no_event(worker, run):
    attempt, lease = worker.leases[str(run.id)]
    body = {"type": "STARTED", "attempt": attempt, "lease": lease}
    for _ in range(2):
        answer = worker.client.post(
            f"/runs/{run.id}/events", body, format="json", headers={"Idempotency-Key": "e"}
        )
        assert (answer.status_code, answer.json()["id"]) == (201, 1)
    assert Run.objects.get(pk=run.id).event_count == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_ends_reported_at_once_one_wins(admin_key):
    run = make_run()
    worker = PullWorker(client_for(admin_key))
    worker.claim()
    worker.report(run.id, "STARTED")
    barrier = threading.Barrier(2)
    answers = []

    def end(type_):
        try:
            barrier.wait()
            answers.append(worker.event(run.id, type_))
        finally:
            connection.close()

    threads = [threading.Thread(target=end, args=(type_,)) for type_ in ("COMPLETED", "FAILED")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    loser = next(answer for answer in answers if answer.status_code == 409)
    assert_problem(loser, 409, "stale_lease")
