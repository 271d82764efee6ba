"""Whoever waits for the end of executions hears of it, once: triggers count, sweeps find what nobody told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.core import clock
from apps.pipelines import services, sweeps, triggers
from apps.pipelines.execution import engine, settling
from apps.pipelines.models import Ending, Execution, Trigger
from apps.pipelines.triggering import dispatching
from apps.runs.models import Run
from apps.topics.services import NewEvent, append_events
from tests.asserts import present

pytestmark = pytest.mark.django_db


def listen(**trigger: Any) -> None:
    services.create_pipeline(
        body={
            "id": "p",
            "name": "p",
            "options": {"event": "orders", "trigger": trigger},
            "steps": [{"name": "a", "command": ["true"]}],
        },
        caller=ANONYMOUS,
    )
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)


def publish(count: int) -> None:
    append_events([NewEvent(topic="orders", data=str(n)) for n in range(count)])


def end_runs(driver: Any, error: str = "") -> None:
    for run in Run.objects.filter(finished_at=None).order_by("id"):
        driver.end(run.id, {}, error=error)


def told() -> list[Any]:
    return list(Execution.objects.filter(status="running").values_list("id", flat=True))


def test_the_turn_that_fills_the_room_counts_what_has_made_it(driver):
    listen(max_concurrency=2)
    publish(3)
    dispatching.dispatch_due()
    end_runs(driver)
    engine.run_once(told(), dispatches=False, looks=False)
    trigger = Trigger.objects.get()
    assert (trigger.started, trigger.succeeded) == (3, 2)
    assert not Ending.objects.exists()
    end_runs(driver)
    engine.run_once(told(), dispatches=False, looks=False)
    assert Trigger.objects.get().succeeded == 3
    assert not Ending.objects.exists()


def test_ends_of_several_turns_are_told_together_and_once(driver):
    listen()
    publish(3)
    dispatching.dispatch_due()
    for run in Run.objects.all():
        driver.end(run.id, {})
        driver.advance(Execution.objects.get(pk=present(run.execution_id)))
    assert Ending.objects.count() == 3
    assert settling.settle_ended() == 3
    assert settling.settle_ended() == 0
    assert Trigger.objects.get().succeeded == 3


def test_what_the_next_turn_of_a_trigger_will_tell_is_left_to_it(driver, monkeypatch):
    monkeypatch.setattr(dispatching, "MOST_STARTED", 2)
    listen(max_concurrency=100)
    publish(5)
    dispatching.dispatch_due()
    end_runs(driver)
    round_ = engine.run_once(told())
    assert round_.dispatches_again
    assert Ending.objects.exists()
    assert Trigger.objects.get().succeeded == 0
    # Whoever dies before that turn leaves it to the next round of anybody.
    engine.run_once(told(), looks=True)
    assert not Ending.objects.exists()
    assert Trigger.objects.get().succeeded == 2


def test_a_trigger_that_is_gone_is_not_told(driver):
    listen()
    publish(1)
    dispatching.dispatch_due()
    end_runs(driver)
    driver.advance(Execution.objects.get())
    Trigger.objects.all().delete()
    assert settling.settle_ended() == 1
    assert not Ending.objects.exists()


def test_attempts_are_counted_once_however_often_an_execution_is_redriven(driver, time_machine):
    time_machine.move_to("2030-01-01T00:00:00Z", tick=False)
    listen(retry={"max_attempts": 2, "delay_s": 10, "jitter": 0})
    publish(1)
    dispatching.dispatch_due()
    end_runs(driver, "boom")
    driver.advance(Execution.objects.get())
    time_machine.move_to("2030-01-01T00:00:10Z", tick=False)
    engine.run_once(dispatches=False)
    end_runs(driver, "boom")
    engine.run_once(told())
    assert Trigger.objects.get().retried == 1
    for again in (2, 3):
        assert triggers.redrive(pipeline_id="p", seqs=None, caller=ANONYMOUS) == 1
        engine.run_once(told())
        end_runs(driver, "boom")
        engine.run_once(told())
        trigger = Trigger.objects.get()
        assert (trigger.retried, trigger.failed) == (again, again)


def test_a_sweep_finds_what_nobody_told_but_not_what_is_being_told(driver):
    listen()
    publish(2)
    dispatching.dispatch_due()
    end_runs(driver)
    late = Run.objects.order_by("id").first()
    assert late is not None
    Run.objects.filter(pk=late.pk).update(finished_at=clock.now() - timedelta(seconds=5))
    sweeps.sweep()
    assert Execution.objects.get(pk=present(late.execution_id)).status == "completed"
    assert Execution.objects.filter(status="running", wake_at=None).count() == 1
