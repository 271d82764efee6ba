from __future__ import annotations

import pytest

from apps.runs import turns
from apps.runs.models import LogChunk, RunEvent, Worker
from apps.runs.states import RunState, WorkerState
from apps.runs.turns import Ended, Report, Said
from tests.asserts import present
from tests.factories import make_run, make_worker

S = RunState
pytestmark = pytest.mark.django_db


def register(worker_id: str = "worker-1", **over) -> None:
    offer = {
        "executors": ["process"],
        "slots": 4,
        "cpu": 4,
        "ram_mb": 1000,
        "gpus": [],
        "tags": [],
        "hostname": "h",
        **over,
    }
    turns.register_worker(worker_id=worker_id, **offer)


def turn(*reports: Report, limit: int = 10) -> turns.Turn:
    return turns.take_turn(worker_id="worker-1", reports=reports, limit=limit)


def success(**over) -> Ended:
    return Ended(**{"outputs": {}, "exit_code": 0, "error": "", "stopped": False, **over})


def test_a_run_is_claimed_started_and_completed_in_two_turns():
    register()
    run = make_run()
    (claim,) = turn().claims
    turn(
        Report(
            claim.run_id,
            claim.attempt,
            claim.lease,
            handle={"pid": 1},
            said=[Said("progress", 50), Said("info", msg="half"), Said("output", 3, msg="rows")],
            message_offset=80,
            log=b"hello\n",
            ended=success(outputs={"label": "cat"}),
        )
    )
    run.refresh_from_db()
    assert (run.state, run.outputs, run.exit_code) == (S.COMPLETED, {"rows": 3, "label": "cat"}, 0)
    types = list(RunEvent.objects.filter(run=run).order_by("number").values_list("type", flat=True))
    assert types == ["ASSIGNED", "STARTED", "PROGRESS", "INFO", "COMPLETED"]
    assert bytes(LogChunk.objects.get(run=run).content) == b"hello\n"


def test_a_repeated_report_changes_nothing():
    register()
    run = make_run(S.RUNNING, worker=Worker.objects.get())
    report = Report(
        run.id, 1, present(run.lease), said=[Said("info", msg="x")], message_offset=9, log=b"abc"
    )
    turn(report)
    turn(report)
    assert RunEvent.objects.filter(run=run).count() == 1
    assert LogChunk.objects.filter(run=run).count() == 1


@pytest.mark.parametrize("wrong", ["lease", "attempt", "worker"])
def test_a_stale_report_is_refused(wrong):
    register()
    owner = make_worker("other") if wrong == "worker" else Worker.objects.get()
    run = make_run(S.RUNNING, worker=owner, current_attempt=2)
    report = Report(
        run.id,
        1 if wrong == "attempt" else 2,
        "old" if wrong == "lease" else present(run.lease),
        ended=success(),
    )
    assert turn(report).refused == [report]
    run.refresh_from_db()
    assert run.state == S.RUNNING


def test_a_stale_report_does_not_spoil_its_neighbours():
    register()
    worker = Worker.objects.get()
    stale, good = make_run(S.RUNNING, worker=worker), make_run(S.RUNNING, worker=worker)
    turn(
        Report(stale.id, 1, "old", ended=success()),
        Report(good.id, 1, present(good.lease), ended=success()),
    )
    good.refresh_from_db()
    assert good.state == S.COMPLETED


def test_outputs_that_break_their_specs_fail_the_attempt():
    register()
    run = make_run(S.RUNNING, worker=Worker.objects.get(), output_specs={"rows": {"type": "int"}})
    turn(Report(run.id, 1, present(run.lease), ended=success(outputs={"rows": "many"})))
    run.refresh_from_db()
    assert run.state == S.FAILED
    assert "rows" in run.error_message


def test_outputs_said_earlier_count_for_the_specs():
    register()
    run = make_run(S.RUNNING, worker=Worker.objects.get(), output_specs={"rows": {"type": "int"}})
    turn(
        Report(
            run.id, 1, present(run.lease), said=[Said("output", 3, msg="rows")], message_offset=5
        )
    )
    turn(Report(run.id, 1, present(run.lease), message_offset=5, ended=success()))
    run.refresh_from_db()
    assert (run.state, run.outputs) == (S.COMPLETED, {"rows": 3})


def test_a_cancelled_op_that_has_stopped_is_cancelled():
    register()
    run = make_run(S.RUNNING, worker=Worker.objects.get(), retry_policy={"max_attempts": 5})
    run.__class__.objects.filter(pk=run.pk).update(cancel_requested_at=run.created_at)
    assert turn().held[run.id].cancel_requested_at is not None
    turn(
        Report(
            run.id,
            1,
            present(run.lease),
            ended=success(exit_code=None, error="killed", stopped=True),
        )
    )
    run.refresh_from_db()
    assert run.state == S.CANCELLED


def test_an_op_that_can_not_be_started_fails_and_says_why():
    register()
    run = make_run(S.ASSIGNED, worker=Worker.objects.get(), retry_policy={"max_attempts": 5})
    ended = success(exit_code=None, error="no such file: foo", permanent=True)
    turn(Report(run.id, 1, present(run.lease), ended=ended))
    run.refresh_from_db()
    assert (run.state, run.error_message) == (S.FAILED, "no such file: foo")


def test_a_worker_that_leaves_gives_back_what_it_holds_without_a_loss():
    register()
    run = make_run(S.RUNNING, worker=Worker.objects.get())
    turns.leave(worker_id="worker-1")
    run.refresh_from_db()
    assert (run.state, run.losses, run.current_attempt) == (S.PENDING, 0, 2)
    assert Worker.objects.get().state == WorkerState.LOST


def test_a_turn_costs_the_same_queries_whatever_it_reports(django_assert_max_num_queries):
    register(slots=100)
    worker = Worker.objects.get()
    runs = [make_run(S.RUNNING, worker=worker, topic=f"t{n % 3}") for n in range(30)]
    for _ in range(30):
        make_run(topic="t0")
    reports = [Report(run.id, 1, present(run.lease), ended=success()) for run in runs]
    with django_assert_max_num_queries(12):
        result = turn(*reports, limit=100)
    assert len(result.claims) == 30


def test_an_op_whose_supervisor_vanished_counts_as_a_loss():
    register()
    run = make_run(S.RUNNING, worker=Worker.objects.get())
    turn(
        Report(
            run.id, 1, present(run.lease), ended=success(exit_code=None, error="gone", lost=True)
        )
    )
    run.refresh_from_db()
    assert (run.state, run.losses, run.failures) == (S.PENDING, 1, 0)
