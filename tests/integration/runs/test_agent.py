"""What a worker does with what happens to it, one tick at a time."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from django import db

from apps.core import clock
from apps.runs import scheduling, turns
from apps.runs.executors.base import ExecutorFailure, Message, Outcome
from apps.runs.models import Attempt, LogChunk, Run, RunEvent, Worker
from apps.runs.states import RunState, WorkerState
from apps.runs.turns import Report
from apps.runs.worker.agent import Agent
from apps.runs.worker.held import LOG_BYTES_PER_TURN, Room
from tests.factories import make_run, make_worker
from tests.fakes.scripted_executor import Script, ScriptedExecutor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apps.runs.executors.base import Handle, LaunchSpec

S = RunState
pytestmark = pytest.mark.django_db
DONE = Outcome(exit_code=0, outputs={"n": 1}, duration_ms=3)


class Moody(ScriptedExecutor):
    """An executor that fails at one verb for the attempts it is told to."""

    def __init__(self, root: Path, options: dict[str, Any]) -> None:
        super().__init__(root, options)
        self.fails: dict[str, set[str]] = options["fails"]
        self.is_busy: bool = options.get("is_busy", False)

    def _try(self, verb: str, attempt_id: str) -> None:
        if attempt_id[:36] in self.fails.get(verb, ()):
            raise RuntimeError(f"{verb} failed")

    def launch(self, spec: LaunchSpec) -> Handle:
        self._try("launch", spec.attempt_id)
        if spec.run_id in self.fails.get("start", ()):
            raise ExecutorFailure("no space left", permanent=False)
        return super().launch(spec)

    def poll(self, handle: Handle) -> Outcome | None:
        self._try("poll", handle.attempt_id)
        return super().poll(handle)

    def read_log(self, handle: Handle, offset: int) -> bytes:
        self._try("read_log", handle.attempt_id)
        return super().read_log(handle, offset)

    def read_messages(self, handle: Handle, offset: int) -> tuple[list[Message], int]:
        found, _ = super().read_messages(handle, offset)
        page = found[: self.options.get("page", 10**9)]
        return page, offset + len(page)

    def stop(self, handle: Handle, *, grace: float) -> None:
        self._try("stop", handle.attempt_id)
        if self.is_busy:
            self.end(handle.attempt_id, Outcome(started=False, stopped=True, error="not begun"))
        super().stop(handle, grace=grace)

    def is_waiting(self, handle: Handle) -> bool:
        return self.is_busy

    def forget(self, handle: Handle) -> None:
        self._try("forget", handle.attempt_id)
        super().forget(handle)


@pytest.fixture
def options(settings) -> dict[str, Any]:
    """What the executor of every agent in the test is made with."""
    options: dict[str, Any] = {"world": {}, "script": lambda _: Script(ends=DONE), "fails": {}}
    settings.GYOZA_EXECUTORS = {"process": {"BACKEND": f"{__name__}.Moody", "OPTIONS": options}}
    return options


@pytest.fixture
def make_agent(options, tmp_path) -> Callable[..., Agent]:
    def make(worker_id: str = "w", **over: Any) -> Agent:
        agent = Agent(worker_id=worker_id, root=tmp_path, **over)
        agent.tick()
        return agent

    return make


def tick(agent: Agent, times: int = 6) -> None:
    for _ in range(times):
        agent.nudge()
        agent.tick()


def state_of(run: Run) -> tuple[str, int]:
    run.refresh_from_db()
    return run.state, run.current_attempt


def test_it_claims_executes_and_reports(make_agent):
    run = make_run()
    tick(make_agent())
    assert state_of(run) == (S.COMPLETED, 1)
    assert run.outputs == {"n": 1}


def test_a_claim_whose_answer_was_lost_is_given_back(make_agent):
    agent = make_agent()
    run = make_run()
    # As if the connection had broken between Postgres's commit and our hearing of it.
    turns.take_turn(worker_id="w", reports=[], limit=10)
    assert state_of(run) == (S.ASSIGNED, 1)
    tick(agent)
    assert state_of(run) == (S.COMPLETED, 1)


def test_what_follows_a_turn_does_not_cost_its_claims(make_agent, monkeypatch):
    agent = make_agent()
    run = make_run()

    def fail() -> None:
        raise db.OperationalError("gone away")

    with monkeypatch.context() as patch:
        patch.setattr("apps.runs.sweeps.sweep_runs", fail)
        patch.setattr(agent, "_beat_at", 0.0)
        with pytest.raises(db.OperationalError):
            agent.tick()
    assert state_of(run) == (S.ASSIGNED, 1)
    tick(agent)
    assert state_of(run) == (S.COMPLETED, 1)


@pytest.mark.parametrize("verb", ["launch", "poll", "read_log"])
def test_a_mistake_about_one_attempt_costs_no_other(make_agent, options, settings, verb):
    broken, good = make_run(priority=9), make_run()
    options["fails"][verb] = {str(broken.id)}
    agent = make_agent()
    tick(agent, times=3 * settings.GYOZA_MAX_LOSSES)
    assert state_of(good) == (S.COMPLETED, 1)
    assert state_of(broken) == (S.FAILED, settings.GYOZA_MAX_LOSSES)
    assert f"{verb} failed" in broken.error_message
    assert agent.held == {}


def test_a_mistake_while_forgetting_costs_nothing(make_agent, options):
    first, second = make_run(priority=9), make_run()
    options["fails"]["forget"] = {str(first.id)}
    tick(make_agent())
    assert (state_of(first), state_of(second)) == ((S.COMPLETED, 1), (S.COMPLETED, 1))


def test_a_mistake_while_stopping_ends_the_attempt(make_agent, options):
    run, good = make_run(), make_run()
    options["script"] = lambda spec: Script(ends=DONE if spec.run_id == str(good.id) else None)
    options["fails"]["stop"] = {str(run.id)}
    agent = make_agent()
    tick(agent, times=2)
    assert state_of(run) == (S.RUNNING, 1)
    Run.objects.filter(pk=run.pk).update(cancel_requested_at=clock.now())
    tick(agent)
    assert state_of(run) == (S.CANCELLED, 1)
    assert state_of(good) == (S.COMPLETED, 1)


def test_a_report_that_can_not_be_stored_keeps_back_no_other(make_agent, options):
    broken, good = make_run(priority=9), make_run()
    # More than the column holds: the database refuses the whole statement.
    poison = Outcome(exit_code=2**40, error="odd")
    options["script"] = lambda spec: Script(
        ends=poison if spec.run_id == str(broken.id) else DONE,
        messages=(Message("info", 0.0, msg="hello"),),
    )
    agent = make_agent()
    tick(agent, times=12)
    assert state_of(good) == (S.COMPLETED, 1)
    assert state_of(broken)[0] == S.FAILED
    assert "out of range for type integer" in broken.error_message
    assert agent.held == {}


def test_an_attempt_whose_timeout_nobody_keeps_is_stopped(make_agent, options, monkeypatch):
    options["script"] = lambda _: Script()
    run = make_run(timeout_s=60)
    agent = make_agent()
    tick(agent)
    assert state_of(run) == (S.RUNNING, 1)
    (held,) = agent.held.values()
    held.launched_at -= 3600
    monkeypatch.setattr(agent, "_listen_at", 0.0)
    tick(agent)
    assert Attempt.objects.get(run=run).error_message.startswith("stopped")


@pytest.mark.parametrize("how", ["launch", "outcome"])
def test_a_worker_that_can_not_start_anything_leaves_the_work_to_others(make_agent, options, how):
    """A full disk must not fail the queue."""
    runs = [make_run(retry_policy={"max_attempts": 1}) for _ in range(3)]
    if how == "launch":
        options["fails"]["start"] = {str(run.id) for run in runs}
    else:
        full = Outcome(started=False, lost=True, error="no space left")
        options["script"] = lambda _: Script(ends=full)
    agent = make_agent()
    tick(agent)
    for run in runs:
        assert state_of(run) == (S.PENDING, 2)
        assert "no space left" in Attempt.objects.get(run=run).error_message
    assert agent.held == {}


def test_a_command_that_can_not_be_found_fails_its_run_alone(make_agent, options):
    missing, good = make_run(priority=9), make_run()
    absent = Outcome(started=False, error="command not found")
    options["script"] = lambda spec: Script(ends=absent if spec.run_id == str(missing.id) else DONE)
    tick(make_agent())
    assert (state_of(missing), state_of(good)) == ((S.FAILED, 1), (S.COMPLETED, 1))


def chatter(count: int) -> tuple[Message, ...]:
    return tuple(Message("progress", 0.0, value=n % 101) for n in range(count))


def test_who_talks_without_end_is_heard_bit_by_bit_and_to_the_end(make_agent, options):
    """A turn carries a heartbeat: it must not last as long as a worker may be silent."""
    log = b"x" * (3 * LOG_BYTES_PER_TURN)
    options["script"] = lambda _: Script(log=log, messages=chatter(5000), ends=DONE)
    options["page"] = 500
    run = make_run()
    agent = make_agent()
    heard = []
    for _ in range(10):
        tick(agent, times=1)
        heard.append(RunEvent.objects.filter(run=run, type="PROGRESS").count())
    assert max(after - before for before, after in pairwise([0, *heard])) <= 1000
    assert heard[-1] == 5000
    assert state_of(run) == (S.COMPLETED, 1)
    assert sum(len(chunk.content) for chunk in LogChunk.objects.filter(run=run)) == len(log)
    events = RunEvent.objects.filter(run=run).order_by("number")
    assert [event.type for event in events][-1] == "COMPLETED"


def test_many_who_talk_without_end_leave_room_to_each_other(make_agent, options):
    options["script"] = lambda _: Script(messages=chatter(3000), ends=DONE)
    options["page"] = 500
    runs = [make_run() for _ in range(8)]
    agent = make_agent()
    before = 0
    for _ in range(12):
        tick(agent, times=1)
        heard = RunEvent.objects.filter(type="PROGRESS").count()
        assert heard - before <= Room().messages + 500
        before = heard
    assert {state_of(run) for run in runs} == {(S.COMPLETED, 1)}


def test_a_leaving_worker_tells_everything(make_agent, options):
    options["script"] = lambda _: Script(messages=chatter(3000), ends=DONE)
    options["page"] = 500
    run = make_run()
    agent = make_agent()
    agent.nudge()
    agent.tick()
    while agent._say_last_words():
        assert state_of(run) == (S.RUNNING, 1)
    assert state_of(run) == (S.COMPLETED, 1)
    assert RunEvent.objects.filter(run=run, type="PROGRESS").count() == 3000


def test_what_a_leaving_worker_stopped_does_not_fail(make_agent, options):
    options["script"] = lambda _: Script()
    run = make_run()
    agent = make_agent()
    tick(agent, times=2)
    # It is killed after it has asked its ops to stop, and before it could give them back.
    for held in agent.held.values():
        held.stop()
    tick(make_agent(), times=1)
    assert state_of(run) == (S.PENDING, 2)
    assert "stopped" in Attempt.objects.get(run=run).error_message


def test_it_waits_for_postgres_when_it_starts(make_agent, options, tmp_path, monkeypatch):
    run = make_run()
    agent = Agent(worker_id="w", root=tmp_path)

    def fail(**_: Any) -> None:
        raise db.OperationalError("gone away")

    with monkeypatch.context() as patch:
        patch.setattr(scheduling, "register_worker", fail)
        with pytest.raises(db.OperationalError):
            agent.tick()
    tick(agent)
    assert state_of(run) == (S.COMPLETED, 1)


def test_two_workers_of_one_name_do_not_share_runs(make_agent, options, tmp_path):
    options["script"] = lambda _: Script()
    run = make_run()
    first = make_agent(instance="here")
    tick(first, times=2)
    second = make_agent(instance="there")
    tick(second)
    assert second.held == {}
    assert len(options["world"]) == 1
    tick(first)
    assert state_of(run) == (S.RUNNING, 1)


def test_a_name_is_free_once_its_worker_is_lost(make_agent, options, settings):
    options["script"] = lambda _: Script()
    run = make_run()
    first = make_agent(instance="here")
    tick(first, times=2)
    Worker.objects.update(heartbeat_at=clock.now() - timedelta(minutes=1))
    # The tests' Postgres may not have run for the usual time.
    settings.GYOZA_LOST_SECONDS = 0.1
    assert scheduling.lose_workers() == ["w"]
    second = make_agent(instance="there")
    tick(second, times=2)
    assert state_of(run) == (S.RUNNING, 2)
    # The first one has not noticed yet. When it does, it has nothing any more.
    tick(first)
    assert first.held == {}
    tick(second)
    assert state_of(run) == (S.RUNNING, 2)


def test_a_taken_name_gives_way_to_the_spare_one(make_agent):
    make_worker("w", instance="there")
    agent = make_agent(instance="here", spare_id="w-here")
    run = make_run()
    tick(agent)
    assert state_of(run) == (S.COMPLETED, 1)
    assert set(Worker.objects.values_list("id", flat=True)) == {"w", "w-here"}


def test_a_worker_of_ours_does_not_take_the_name_of_a_pull_worker(make_agent):
    make_worker("w", kind="pull", owner="key:1")
    agent = make_agent()
    make_run()
    tick(agent)
    worker = Worker.objects.get()
    assert (worker.kind, worker.state) == ("pull", WorkerState.READY)
    assert agent.held == {}


def test_a_log_that_grew_before_it_was_told_again_has_no_hole(make_agent):
    make_agent()
    run = make_run(S.RUNNING, worker=Worker.objects.get())
    for log in (b"abc", b"abcdef"):
        report = Report(run.id, 1, str(run.lease), log=log)
        turns.take_turn(worker_id="w", reports=[report], limit=0)
    assert bytes(LogChunk.objects.get(run=run).content) == b"abcdef"


def test_one_that_waits_behind_long_ones_is_given_back_unstarted(make_agent, options, monkeypatch):
    monkeypatch.setattr("apps.runs.worker.held.WAIT_SECONDS", 0.0)
    options |= {"script": lambda _: Script(), "is_busy": True}
    run = make_run()
    agent = make_agent()
    agent.nudge()
    agent.tick()
    assert state_of(run) == (S.ASSIGNED, 1)
    Worker.objects.update(state=WorkerState.DRAINING)
    tick(agent)
    assert state_of(run) == (S.PENDING, 1)
    assert agent.held == {}
    assert not RunEvent.objects.filter(run=run, type="ERROR").exists()
