"""runs.md §2: GET /runs/{id}, its timeline and its attempts."""

from __future__ import annotations

import pytest

from apps.access.services import issue_run_token
from apps.core import ids
from apps.runs import queries, transitions, wire
from apps.runs.api import serializers
from apps.runs.queries import AttemptView, WorkerLoad
from apps.runs.states import RunState
from tests.asserts import assert_problem
from tests.cast import client_for
from tests.factories import make_run, make_worker
from tests.pull_worker import PullWorker


@pytest.fixture
def retried(owner, admin_key):
    """Return a run that failed once, was retried and is RUNNING."""
    run = make_run(op_definition="team.op")
    worker = PullWorker(client_for(admin_key))
    worker.claim()
    worker.report(run.id, "STARTED")
    worker.report(run.id, "PROGRESS", 40)
    worker.report(run.id, "FAILED", "broken")
    client_for(owner).post(f"/runs/{run.id}/retry")
    worker.claim()
    worker.report(run.id, "STARTED")
    return run


@pytest.mark.django_db
def test_it_comes_with_the_timeline_of_the_live_attempt(owner, retried):
    run = client_for(owner).get(f"/runs/{retried.id}").json()
    assert (run["state"], run["current_attempt"], run["progress"]) == ("RUNNING", 2, 0)
    events = run["events"]
    assert [event["id"] for event in events] == [0, 1, 2]
    assert [event["type"] for event in events] == ["RETRIED", "ASSIGNED", "STARTED"]
    assert [event["state"] for event in events] == ["PENDING", "ASSIGNED", "RUNNING"]
    assert set(events[0]) == {"id", "t", "type", "msg", "state", "payload"}
    assert events[0]["t"].endswith("Z")
    assert run["execution_summary"]["worker_id"] == "pull-1"


@pytest.mark.django_db
def test_the_timeline_of_any_attempt(owner, retried):
    client = client_for(owner)

    def types(query: str = "") -> list[str]:
        answer = client.get(f"/runs/{retried.id}/events{query}").json()
        return [event["type"] for event in answer["data"]]

    assert types() == ["RETRIED", "ASSIGNED", "STARTED"]
    assert types("?attempt=1") == ["ASSIGNED", "STARTED", "PROGRESS", "FAILED"]
    assert types("?attempt=1&after=1") == ["PROGRESS", "FAILED"]
    assert_problem(client.get(f"/runs/{retried.id}/events?attempt=3"), 404, "not_found")
    answer = client.get(f"/runs/{retried.id}/events?attempt=0&after=x")
    assert_problem(answer, 400, "invalid_request", "attempt", "after")


@pytest.mark.django_db
def test_every_attempt_with_its_timeline(owner, retried):
    client = client_for(owner)
    first, second = client.get(f"/runs/{retried.id}/attempts").json()["data"]
    assert (first["attempt"], first["state"], first["progress"]) == (1, "FAILED", 40)
    assert first["execution_summary"]["error_message"] == "broken"
    assert first["finished_at"] is not None
    assert [event["type"] for event in first["events"]][-1] == "FAILED"
    assert (second["attempt"], second["state"]) == (2, "RUNNING")
    assert client.get(f"/runs/{retried.id}/attempts/1").json() == first
    assert client.get(f"/runs/{retried.id}/attempts/2").json() == second
    assert_problem(client.get(f"/runs/{retried.id}/attempts/3"), 404, "not_found")


@pytest.mark.django_db
def test_attempts_share_the_room_for_events(owner, retried, monkeypatch):
    monkeypatch.setattr(queries, "MOST_EVENTS", 6)
    monkeypatch.setattr(queries, "LEAST_EVENTS", 2)
    client = client_for(owner)
    first, second = client.get(f"/runs/{retried.id}/attempts").json()["data"]
    assert ([event["id"] for event in first["events"]], len(second["events"])) == ([0, 1, 2], 3)
    rest = client.get(f"/runs/{retried.id}/events?attempt=1&after=2").json()["data"]
    assert [event["type"] for event in rest] == ["FAILED"]


@pytest.mark.django_db
@pytest.mark.parametrize("tail", ["", "/events", "/attempts", "/attempts/1"])
def test_to_a_stranger_it_does_not_exist(stranger, reader, retried, tail):
    assert client_for(reader).get(f"/runs/{retried.id}{tail}").status_code == 200
    assert_problem(client_for(stranger).get(f"/runs/{retried.id}{tail}"), 404, "not_found")
    assert_problem(client_for(reader).get(f"/runs/{ids.uuid7()}{tail}"), 404, "not_found")
    assert_problem(client_for().get(f"/runs/{retried.id}{tail}"), 401, "unauthorized")


@pytest.mark.django_db
def test_a_run_token_opens_its_own_run_only(owner, retried):
    other = make_run(op_definition="team.op")
    op = client_for(issue_run_token(retried.id, 2))
    assert op.get(f"/runs/{retried.id}").status_code == 200
    assert_problem(op.get(f"/runs/{other.id}"), 404, "not_found")
    assert_problem(op.get("/runs"), 403, "forbidden")


@pytest.mark.django_db
@pytest.mark.parametrize("tail", ["", "/events"])
def test_a_run_token_ends_with_its_attempt(owner, retried, tail):
    former = client_for(issue_run_token(retried.id, 1))
    assert_problem(former.get(f"/runs/{retried.id}{tail}"), 401, "unauthorized")
    op = client_for(issue_run_token(retried.id, 2))
    with transitions.batch() as moves:
        transitions.complete(moves, transitions.get_live(moves, retried.id), outputs={})
    assert_problem(op.get(f"/runs/{retried.id}{tail}"), 401, "unauthorized")
    change = op.patch(f"/runs/{retried.id}", {"metadata": {"a": 1}}, format="json")
    assert_problem(change, 409, "stale_lease")


@pytest.mark.django_db
def test_a_run_token_is_its_run_also_while_there_are_no_keys():
    run = make_run(RunState.RUNNING)
    op = client_for(issue_run_token(run.id, 1))
    answer = op.post(f"/runs/{run.id}/events", {"type": "PROGRESS", "msg": 7}, format="json")
    assert (answer.status_code, answer.json()["msg"]) == (201, 7)
    assert_problem(op.get("/runs"), 403, "forbidden")


@pytest.mark.django_db
def test_what_is_written_is_what_is_declared():
    run = make_run(RunState.RUNNING)
    declared = {
        serializers.OpRunSerializer: wire.run(run),
        serializers.AttemptSerializer: wire.attempt(AttemptView(1, run, None, [])),
        serializers.WorkerSerializer: wire.worker(WorkerLoad(make_worker("w"), [], 0, 0, {})),
    }
    for serializer, written in declared.items():
        assert list(serializer().fields) == list(written)
