"""What beat sends: the sweeps of the code, whatever Postgres does, and knocks at pipelines that are due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.db import OperationalError
from django_celery_beat.models import PeriodicTask

from apps.access.auth import ANONYMOUS
from apps.pipelines import services
from gyoza_site.beat import Scheduler
from gyoza_site.celery import app

# Beat looks after its own connection, which is no good inside a test's transaction.
pytestmark = pytest.mark.django_db(transaction=True)

SWEEPS = set(app.conf.beat_schedule)


class Recorder(Scheduler):
    """A scheduler whose broker is a list."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any], Any]] = []
        super().__init__(app)
        # It would write its figures when the tests' Postgres has gone.
        self._finalize.cancel()

    producer = None

    def apply_async(self, entry: Any, **_: Any) -> None:
        self.sent.append((entry.task, dict(entry.kwargs), entry.options.get("expires")))

    def pass_over(self) -> list[tuple[str, dict[str, Any], Any]]:
        """Tick until nothing is due at this moment; return what was sent."""
        self.sent = []
        for _ in range(100):
            if self.tick() > 0:
                break
        return self.sent


@pytest.fixture
def clock():
    with time_machine.travel(datetime(2030, 1, 1, 11, 59, 0, tzinfo=UTC), tick=False) as moving:
        yield moving


def make(schedule: str = "0 12 * * *", **options: Any) -> None:
    steps = [{"name": "a", "command": ["true"]}]
    document = {
        "id": "p",
        "name": "p",
        "steps": steps,
        "options": {"schedule": schedule, **options},
    }
    services.apply_pipeline(body=document, caller=ANONYMOUS)


def knocks(sent: list[tuple[str, dict[str, Any], Any]]) -> list[dict[str, Any]]:
    return [kwargs for task, kwargs, _ in sent if task == "pipelines.start_schedule"]


def test_sweeps_are_sent_as_the_code_says_and_stored_nowhere(clock):
    beat = Recorder()
    clock.shift(1000)
    sent = beat.pass_over()
    assert {task for task, _, _ in sent} == {
        entry["task"] for entry in app.conf.beat_schedule.values()
    }
    assert ("runs.sweep_runs", {}, 1) in sent
    clock.shift(1)
    assert "access.trim_idempotency" not in {task for task, _, _ in beat.pass_over()}
    assert "runs.sweep_runs" in {task for task, _, _ in beat.sent}
    assert not PeriodicTask.objects.exists()


def test_it_knocks_when_a_pipeline_is_due(clock):
    make()
    beat = Recorder()
    clock.shift(30)
    assert knocks(beat.pass_over()) == []
    clock.shift(30)
    assert knocks(beat.pass_over()) == [{"pipeline_id": "p"}]
    assert knocks(beat.pass_over()) == []
    clock.shift(24 * 3600)
    assert knocks(beat.pass_over()) == [{"pipeline_id": "p"}]


def test_it_sees_what_changes_while_it_runs(clock):
    beat = Recorder()
    beat.pass_over()
    make()
    clock.shift(60)
    assert knocks(beat.pass_over()) == [{"pipeline_id": "p"}]
    make("30 12 * * *")
    clock.shift(1)
    beat.pass_over()
    clock.move_to(datetime(2030, 1, 1, 12, 30, tzinfo=UTC))
    assert knocks(beat.pass_over()) == [{"pipeline_id": "p"}]
    services.delete_pipeline(pipeline_id="p", force=False, caller=ANONYMOUS)
    clock.shift(24 * 3600)
    assert knocks(beat.pass_over()) == []


def test_it_goes_by_the_timezone_of_the_pipeline(clock):
    make("0 7 * * *", timezone="America/New_York")
    beat = Recorder()
    clock.shift(60)
    assert knocks(beat.pass_over()) == [{"pipeline_id": "p"}]


@pytest.mark.parametrize("was_there_before", [False, True])
def test_sweeps_go_on_while_postgres_is_away(clock, monkeypatch, was_there_before):
    make()
    beat = Recorder()
    if was_there_before:
        beat.pass_over()

    def away(*_: Any) -> Any:
        raise OperationalError("no connection")

    monkeypatch.setattr("gyoza_site.beat.BLIND_SECONDS", 0)
    monkeypatch.setattr(beat.Changes, "last_change", away)
    monkeypatch.setattr(beat, "enabled_models", away)
    # Long enough for all schedules to be read again.
    clock.shift(600)
    assert "runs.sweep_runs" in {task for task, _, _ in beat.pass_over()}
    # What is known goes on.
    assert bool(knocks(beat.sent)) == was_there_before
    monkeypatch.undo()
    clock.shift(24 * 3600)
    assert knocks(beat.pass_over()) == [{"pipeline_id": "p"}]
