"""runs.md §2 and §4: GET /workers, heartbeat and claim of pull workers in any language."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.runs.models import Run
from apps.runs.states import RunState, WorkerState
from tests.asserts import assert_problem
from tests.cast import caller_for, client_for, make_key
from tests.factories import make_run, make_worker
from tests.pull_worker import PullWorker


@pytest.mark.django_db
def test_a_heartbeat_registers_and_answers_until_when(admin_key):
    answer = PullWorker(client_for(admin_key), "gpu-box").heartbeat()
    assert answer["cancel"] == []
    assert answer["expires_at"].endswith("Z")


@pytest.mark.django_db
def test_a_claim_gives_runs_that_fit_with_what_they_need(admin_key):
    small = make_run(cpu=1, env={"A": "1"})
    make_run(cpu=100)
    worker = PullWorker(client_for(admin_key), cpu=2)
    (run,) = worker.claim()
    assert (run["id"], run["state"], run["env"]) == (str(small.id), "ASSIGNED", {"A": "1"})
    assert worker.claim() == []


@pytest.mark.django_db
def test_a_claim_gives_only_what_the_key_may_see(admin_key):
    foreign = [
        make_run(op_definition="other.op", priority=9),
        make_run(topic="other.t", priority=9),
        make_run(op_definition="other.op", topic="team.t", priority=9),
        make_run(priority=9),
    ]
    mine = [make_run(op_definition="team.op", topic="other.t"), make_run(topic="team.t")]
    secret = make_key("mine", "read+write+admin", "team.", "team2.")
    mine.append(make_run(created_by=caller_for(secret).owner))
    worker = PullWorker(client_for(secret))
    claimed = [run["id"] for run in worker.claim()]
    assert claimed == [str(run.id) for run in mine]
    visible = Run.objects.visible_to(("team.", "team2."), caller_for(secret).owner)
    assert set(visible) == set(mine)
    assert not set(foreign) & set(visible)


@pytest.mark.django_db
def test_a_big_run_that_a_worker_may_not_see_starves_nobody_on_it(admin_key, settings):
    secret = make_key("mine", "read+write+admin", "team.")
    long_ago = clock.now() - timedelta(seconds=settings.GYOZA_STARVATION_SECONDS + 1)
    make_run(op_definition="other.op", cpu=8, priority=9, queued_at=long_ago)
    worker = PullWorker(client_for(secret))
    for _ in range(2):
        make_run(op_definition="team.op", cpu=1)
    assert len(worker.claim(1)) == 1
    assert len(worker.claim(1)) == 1


@pytest.mark.django_db
def test_a_worker_hears_which_of_its_runs_are_not_its_own_any_more(admin_key):
    make_run()
    worker = PullWorker(client_for(admin_key))
    (run,) = worker.claim()
    other = make_run().id
    assert worker.heartbeat(run["id"], other)["cancel"] == [str(other)]


def held(worker: PullWorker, state: RunState) -> Run:
    """Return a run that the worker claimed, and started if it is to be RUNNING."""
    run = make_run()
    worker.claim()
    if state == RunState.RUNNING:
        worker.report(run.id, "STARTED")
    return run


@pytest.mark.django_db
@pytest.mark.parametrize("state", [RunState.ASSIGNED, RunState.RUNNING])
def test_a_run_that_its_worker_does_not_know_of_goes_elsewhere(admin_key, state):
    """The answer to its claim was lost, or it was restarted and has forgotten."""
    worker = PullWorker(client_for(admin_key))
    run = held(worker, state)
    worker.heartbeat()
    run.refresh_from_db()
    assert run.state == state  # the claim's answer may still be on its way
    with time_machine.travel(clock.now() + timedelta(minutes=1), tick=False):
        worker.heartbeat(run.id)
        run.refresh_from_db()
        assert run.state == state
        worker.heartbeat()
    run.refresh_from_db()
    assert (run.state, run.worker_id) == (RunState.PENDING, None)
    assert run.current_attempt == (2 if state == RunState.RUNNING else 1)


@pytest.mark.django_db
def test_a_worker_that_does_not_say_what_it_runs_keeps_it_and_hears_of_cancels(admin_key):
    worker = PullWorker(client_for(admin_key))
    run = held(worker, RunState.RUNNING)
    client_for(admin_key).post(f"/runs/{run.id}/cancel")
    with time_machine.travel(clock.now() + timedelta(minutes=1), tick=False):
        body = {"resources": worker.resources}
        answer = client_for(admin_key).post(f"/workers/{worker.id}/heartbeat", body, format="json")
    assert answer.json()["cancel"] == [str(run.id)]
    run.refresh_from_db()
    assert run.state == RunState.RUNNING


@pytest.mark.django_db
def test_a_cancelled_run_that_is_not_named_any_more_has_stopped(admin_key):
    worker = PullWorker(client_for(admin_key))
    run = held(worker, RunState.RUNNING)
    client_for(admin_key).post(f"/runs/{run.id}/cancel")
    assert worker.heartbeat(run.id)["cancel"] == [str(run.id)]
    worker.heartbeat()
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED


@pytest.mark.django_db
def test_workers_that_went_days_ago_are_not_listed(admin_key):
    days_ago = clock.now() - timedelta(days=2)
    make_worker("old", state=WorkerState.LOST, heartbeat_at=days_ago)
    make_worker("lost", state=WorkerState.LOST)
    make_worker("ready")
    rows = client_for(admin_key).get("/workers").json()["data"]
    assert [row["id"] for row in rows] == ["lost", "ready"]


@pytest.mark.django_db
def test_the_list_says_what_is_offered_held_and_free(admin_key):
    run = make_run(cpu=2, ram_mb=100, vram_mb=500)
    worker = PullWorker(client_for(admin_key), gpus=[{"id": 0, "vram_mb": 8000}])
    worker.claim()
    (row,) = client_for(admin_key).get("/workers").json()["data"]
    assert (row["id"], row["kind"], row["state"]) == ("pull-1", "pull", "READY")
    assert row["running"] == [str(run.id)]
    assert row["resources"] == {
        "total": {"cpu": 8, "ram_mb": 8000, "gpus": [{"id": 0, "vram_mb": 8000}]},
        "free": {"cpu": 6, "ram_mb": 7900, "gpus": [{"id": 0, "vram_mb": 7500}]},
    }


@pytest.mark.django_db
def test_the_list_costs_the_same_whatever_its_length(admin_key):
    client = client_for(admin_key)
    client.get("/workers")
    counts = []
    for number in range(2):
        for index in range(3):
            worker = make_worker(f"w{number}{index}")
            make_run(RunState.RUNNING, worker=worker)
        with CaptureQueriesContext(connection) as captured:
            client.get("/workers")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 2


@pytest.mark.django_db
def test_runs_a_key_may_not_see_stay_unnamed(stranger):
    make_run(RunState.RUNNING, op_definition="team.op", cpu=1)
    (row,) = client_for(stranger).get("/workers").json()["data"]
    assert (row["running"], row["resources"]["free"]["cpu"]) == ([], 3)


@pytest.mark.django_db
def test_a_claim_before_the_first_heartbeat_is_refused(admin_key):
    answer = client_for(admin_key).post("/workers/nobody/claim", {"max": 1}, format="json")
    assert_problem(answer, 404, "not_found")


@pytest.mark.django_db
def test_a_worker_of_another_key_is_not_yours(admin_key):
    PullWorker(client_for(admin_key), "mine")
    other = client_for(make_key("other"))
    for verb in ("heartbeat", "claim"):
        assert_problem(other.post(f"/workers/mine/{verb}", {}, format="json"), 403, "forbidden")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"resources": {"cpu": -1, "gpus": [{"id": 0}, 5]}}, ["resources.cpu", "resources.gpus.0.vram_mb", "resources.gpus.1"]),
        ({"resources": {"gpus": [{"id": 0, "vram_mb": 1}] * 2}}, ["resources.gpus"]),
        ({"resources": 5, "tags": [1], "running": ["x"], "y": 1}, ["resources", "tags.0", "running.0", "y"]),
    ],
)  # fmt: skip
def test_a_bad_heartbeat_names_every_field(admin_key, body, fields):
    answer = client_for(admin_key).post("/workers/w/heartbeat", body, format="json")
    assert_problem(answer, 400, "invalid_request", *fields)


@pytest.mark.django_db
@pytest.mark.parametrize("most", [0, 1001, "1", True, None])
def test_a_bad_claim_is_refused(admin_key, most):
    PullWorker(client_for(admin_key))
    answer = client_for(admin_key).post("/workers/pull-1/claim", {"max": most}, format="json")
    assert_problem(answer, 400, "invalid_request", "max")


@pytest.mark.django_db
@pytest.mark.parametrize("worker_id", ["a b", "-a", "x" * 129])
def test_a_bad_worker_id_is_refused(admin_key, worker_id):
    answer = client_for(admin_key).post(f"/workers/{worker_id}/heartbeat", {}, format="json")
    assert_problem(answer, 400, "invalid_request", "worker_id")


@pytest.mark.django_db
def test_taking_part_needs_the_scope_admin_and_looking_needs_read(reader):
    client = client_for(reader)
    assert client.get("/workers").status_code == 200
    writer = client_for(make_key("writer", "read+write"))
    for verb in ("heartbeat", "claim"):
        assert_problem(writer.post(f"/workers/w/{verb}", {}, format="json"), 403, "forbidden")
