from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apps.core.errors import IllegalTransition
from apps.runs import transitions
from apps.runs.models import Attempt, Run, RunEvent
from apps.runs.states import MOVES, EventType, RunState
from apps.topics.models import Event
from tests.asserts import present
from tests.factories import make_run, make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
S = RunState


def moved(run: Run, verb, **kwargs) -> Run:
    with transitions.batch() as moves:
        verb(moves, transitions.get_live(moves, run.id), **kwargs)
    run.refresh_from_db()
    return run


def timeline(run: Run, attempt: int = 1) -> list[tuple[int, str, str]]:
    entries = RunEvent.objects.filter(run=run, attempt=attempt).order_by("number")
    return [(entry.number, entry.type, entry.state) for entry in entries]


def test_a_run_goes_from_pending_to_completed():
    worker = make_worker()
    run = make_run()
    moved(run, transitions.assign, worker_id=worker.id, gpu=None)
    assert (run.state, run.worker_id) == (S.ASSIGNED, worker.id)
    assert run.lease
    moved(run, transitions.start, handle={"pid": 7})
    assert (run.state, run.handle) == (S.RUNNING, {"pid": 7})
    run = moved(run, transitions.complete, outputs={"label": "cat"}, exit_code=0)
    assert (run.state, run.progress, run.outputs) == (S.COMPLETED, 100, {"label": "cat"})
    assert (run.lease, run.worker_id) == (None, worker.id)
    assert timeline(run) == [
        (0, "ASSIGNED", "ASSIGNED"),
        (1, "STARTED", "RUNNING"),
        (2, "COMPLETED", "COMPLETED"),
    ]
    assert Attempt.objects.count() == 0


def test_two_moves_in_one_batch_are_both_told():
    run = make_run(S.ASSIGNED)
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        transitions.start(moves, live)
        transitions.complete(moves, live, outputs={})
    assert timeline(run) == [(0, "STARTED", "RUNNING"), (1, "COMPLETED", "COMPLETED")]


VERBS: dict[str, tuple[Callable[..., object], dict[str, Any], RunState]] = {
    "assign": (transitions.assign, {"worker_id": "worker-1", "gpu": None}, S.ASSIGNED),
    "start": (transitions.start, {}, S.RUNNING),
    "complete": (transitions.complete, {"outputs": {}}, S.COMPLETED),
    "fail": (transitions.fail, {"error": "no"}, S.FAILED),
    "cancel": (transitions.cancel, {"reason": "no"}, S.CANCELLED),
    "reopen": (transitions.reopen, {"reason": "again"}, S.PENDING),
}


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("name", list(VERBS))
def test_a_verb_moves_along_its_edges_and_refuses_all_others(state, name):
    make_worker()
    verb, kwargs, to = VERBS[name]
    run = make_run(state)
    is_legal = to in MOVES[state] and not (name == "reopen" and state in (S.ASSIGNED, S.RUNNING))
    if is_legal:
        assert moved(run, verb, **kwargs).state == to
    else:
        with pytest.raises(IllegalTransition):
            moved(run, verb, **kwargs)
        run.refresh_from_db()
        assert run.state == state
        assert RunEvent.objects.count() == 0


def test_a_failed_attempt_with_attempts_left_waits_for_the_next():
    run = make_run(S.RUNNING, retry_policy={"max_attempts": 2, "delay_s": 5, "jitter": 0})
    moved(run, transitions.progress, percent=40)
    moved(run, transitions.add_outputs, outputs={"rows": 3})
    moved(run, transitions.fail, error="boom", exit_code=3)
    assert (run.state, run.current_attempt, run.progress, run.outputs) == (S.PENDING, 2, 0, {})
    assert 4 < (present(run.scheduled_at) - run.queued_at).total_seconds() < 6
    assert [(t, s) for _, t, s in timeline(run, 1)] == [
        ("PROGRESS", "RUNNING"),
        ("ERROR", "RUNNING"),
    ]
    assert timeline(run, 2) == [(0, "RETRIED", "PENDING")]
    left = Attempt.objects.get(run=run)
    assert (left.number, left.state, left.error_message, left.exit_code) == (1, S.FAILED, "boom", 3)
    assert (left.progress, left.outputs) == (40, {"rows": 3})


def test_the_last_attempt_that_fails_is_final():
    run = make_run(S.RUNNING, retry_policy={"max_attempts": 2}, failures=1, current_attempt=2)
    moved(run, transitions.fail, error="boom", exit_code=1)
    assert (run.state, run.error_message, run.exit_code) == (S.FAILED, "boom", 1)


def test_a_permanent_failure_is_not_tried_again():
    run = make_run(S.RUNNING, retry_policy={"max_attempts": 9})
    assert moved(run, transitions.fail, error="no such file", is_permanent=True).state == S.FAILED


def test_losing_a_worker_uses_no_attempt_of_the_policy_up_to_three_times():
    run = make_run(S.RUNNING, retry_policy={"max_attempts": 1})
    moved(run, transitions.lose, error="worker w was lost", max_losses=3)
    assert (run.state, run.losses, run.failures, run.scheduled_at) == (S.PENDING, 1, 0, None)
    run = make_run(S.RUNNING, losses=2)
    moved(run, transitions.lose, error="worker w was lost", max_losses=3)
    assert run.state == S.FAILED
    assert "3 workers were lost in a row" in run.error_message


def test_an_assigned_run_is_released_within_its_attempt():
    run = make_run(S.ASSIGNED)
    moved(run, transitions.lose, error="worker w was lost", max_losses=3)
    assert (run.state, run.current_attempt, run.losses, run.lease) == (S.PENDING, 1, 0, None)


def test_a_run_that_was_asked_to_cancel_does_not_try_again():
    run = make_run(S.RUNNING, retry_policy={"max_attempts": 9})
    moved(run, transitions.request_cancel, reason="enough")
    assert run.state == S.RUNNING
    assert run.cancel_requested_at is not None
    assert moved(run, transitions.fail, error="terminated").state == S.CANCELLED


def test_an_explicit_retry_starts_the_policy_anew():
    run = make_run(S.FAILED, failures=3, losses=2, error_message="boom", exit_code=1)
    moved(run, transitions.reopen, reason="again")
    assert (run.state, run.current_attempt, run.failures, run.losses) == (S.PENDING, 2, 0, 0)
    assert (run.error_message, run.exit_code, run.finished_at) == ("", None, None)
    assert Attempt.objects.get(run=run).error_message == "boom"


def test_each_entry_is_published_to_the_topic_with_the_attributes():
    run = make_run(S.RUNNING, topic="batch", attributes={"team": "vision", "n": 1})
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        moves.note(live, EventType.INFO, "hello", {"n": 2})
    event = Event.objects.get()
    data = json.loads(event.data)
    assert list(data) == ["run_id", "attempt", "type", "msg", "t", "state", "payload"]
    assert (data["run_id"], data["msg"]) == (str(run.id), "hello")
    assert data["payload"] == {"team": "vision", "n": 2}
    assert event.tag == f"run/{run.id}"


def test_what_ops_say_never_breaks_the_write():
    run = make_run(S.RUNNING, topic="batch")
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        moves.note(
            live, EventType.INFO, "nul \x00 \ud800", {"a\x00": [10**40, float("nan"), "\x00"]}
        )
        transitions.add_outputs(moves, live, {"x": "\x00"})
    entry = RunEvent.objects.get(run=run)
    assert entry.msg == "nul � ?"
    assert entry.payload == {"a�": [str(10**40), None, "�"]}
    run.refresh_from_db()
    assert run.outputs == {"x": "�"}


def test_an_error_leaves_nothing_of_the_batch():
    good, bad = make_run(S.RUNNING), make_run(S.COMPLETED)

    def both() -> None:
        with transitions.batch() as moves:
            lives = moves.lock([good.id, bad.id])
            transitions.complete(moves, lives[good.id], outputs={})
            transitions.start(moves, lives[bad.id])

    with pytest.raises(IllegalTransition):
        both()
    good.refresh_from_db()
    assert good.state == S.RUNNING
    assert RunEvent.objects.count() == 0
