"""Executions started by the clock: once per due time, whoever knocks and whenever somebody dies."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import time_machine
from django.db import IntegrityError, connection, transaction
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

from apps.access.auth import ANONYMOUS
from apps.access.models import AuditEntry
from apps.core.errors import Invalid
from apps.pipelines import services, sweeps, transitions
from apps.pipelines.errors import NoSchedule
from apps.pipelines.execution import starting
from apps.pipelines.models import Execution, Schedule
from apps.pipelines.schedules import services as schedules
from apps.pipelines.tasks import start_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db

STEPS = [{"name": "a", "command": ["true"], "inputs": {"at": {"$ref": "trigger.scheduled_at"}}}]


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(datetime(2030, 1, 1, 11, 59, 30, tzinfo=UTC), tick=False) as moving:
        yield moving


def document(schedule: str | None = "0 * * * *", **options: Any) -> dict[str, Any]:
    return {
        "id": "p",
        "name": "p",
        "steps": STEPS,
        "options": {**({} if schedule is None else {"schedule": schedule}), **options},
    }


def make(schedule: str | None = "0 * * * *", **options: Any) -> Schedule:
    services.create_pipeline(body=document(schedule, **options), caller=ANONYMOUS)
    return Schedule.objects.get(pk="p")


def replace(schedule: str | None = "0 * * * *", **options: Any) -> None:
    services.replace_pipeline(pipeline_id="p", body=document(schedule, **options), caller=ANONYMOUS)


def due() -> str:
    next_at = Schedule.objects.get(pk="p").next_at
    return "" if next_at is None else next_at.strftime("%d %H:%M")


def started() -> list[str]:
    rows = Execution.objects.filter(pipeline_id="p", scheduled_at__isnull=False).order_by("id")
    return [f"{row.scheduled_at:%d %H:%M}" for row in rows]


# --- what is due -------------------------------------------------------------------------------------


def test_a_due_time_starts_one_execution(clock):
    assert make().next_at == datetime(2030, 1, 1, 12, tzinfo=UTC)
    start_schedule(pipeline_id="p")
    assert started() == []
    clock.move_to(datetime(2030, 1, 1, 12, 0, 0, 5000, tzinfo=UTC))
    for _ in range(3):
        start_schedule(pipeline_id="p")
        sweeps.sweep()
    assert started() == ["01 12:00"]
    execution = Execution.objects.get()
    assert msgspec.json.decode(execution.trigger or "") == {
        "type": "schedule",
        "scheduled_at": "2030-01-01T12:00:00.000000Z",
        "attempt": 1,
    }
    schedule = Schedule.objects.get()
    assert (schedule.started, schedule.last_execution_id) == (1, execution.id)
    assert due() == "01 13:00"


def test_steps_see_when_they_were_due(clock, driver):
    make()
    clock.shift(60)
    sweeps.sweep()
    driver.advance(Execution.objects.get())
    [run] = driver.runs(Execution.objects.get())
    assert run.inputs == {"at": "2030-01-01T12:00:00.000000Z"}


def test_a_lost_knock_is_made_up_for_by_the_sweep(clock):
    """Redis is emptied, or never reached: the row knows."""
    make()
    clock.shift(60)
    sweeps.sweep()
    assert started() == ["01 12:00"]


def test_what_was_missed_is_started_once(clock):
    make()
    clock.move_to(datetime(2030, 1, 3, 7, 20, tzinfo=UTC))
    sweeps.sweep()
    sweeps.sweep()
    assert started() == ["03 07:00"]
    assert due() == "03 08:00"


def test_it_starts_the_newest_version(clock):
    make()
    replace()
    clock.shift(60)
    sweeps.sweep()
    assert Execution.objects.get().pipeline_version == 2


def test_each_due_time_waits_for_room(clock):
    make("* * * * *", max_concurrent_executions=1)
    for _ in range(3):
        clock.shift(60)
        sweeps.sweep()
    assert len(started()) == 3
    assert Execution.objects.filter(is_queued=False).count() == 1


def test_the_time_is_that_of_the_timezone(clock):
    make("0 9 * * *", timezone="America/New_York")
    assert due() == "01 14:00"


def test_nothing_of_a_turn_stays_if_it_dies_before_its_commit(clock, monkeypatch):
    make()
    clock.shift(60)
    created = transitions.create

    def die(new: Any) -> None:
        created(new)
        raise SystemExit

    monkeypatch.setattr(transitions, "create", die)
    with pytest.raises(SystemExit):
        start_schedule(pipeline_id="p")
    monkeypatch.undo()
    assert (started(), due()) == ([], "01 12:00")
    start_schedule(pipeline_id="p")
    assert (started(), due()) == (["01 12:00"], "01 13:00")


def test_the_database_knows_each_due_time_once(clock):
    make()
    clock.shift(60)
    sweeps.sweep()
    execution = Execution.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.create(
            pipeline_id="p", pipeline_version=1, document="{}", scheduled_at=execution.scheduled_at
        )


def test_a_clock_that_is_set_back_starts_nothing_twice(clock):
    make()
    clock.shift(60)
    sweeps.sweep()
    clock.move_to(datetime(2030, 1, 1, 11, 0, tzinfo=UTC))
    replace("*/30 * * * *")
    assert due() == "01 12:30"
    services.delete_pipeline(pipeline_id="p", force=True, caller=ANONYMOUS)
    make()
    clock.move_to(datetime(2030, 1, 1, 12, 0, 1, tzinfo=UTC))
    sweeps.sweep()
    assert (started(), due()) == (["01 12:00"], "01 13:00")


@pytest.mark.django_db(transaction=True)
def test_of_several_that_knock_at_once_one_starts_it(clock):
    make()
    clock.shift(60)
    together = threading.Barrier(4)

    def knock() -> None:
        together.wait()
        schedules.start_if_due(pipeline_id="p")
        connection.close()

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert started() == ["01 12:00"]


def test_the_trouble_of_one_is_not_that_of_all(clock, monkeypatch, caplog):
    make()
    services.create_pipeline(body={**document(), "id": "q"}, caller=ANONYMOUS)
    clock.shift(60)
    start = starting.start

    def stumble(request: Any) -> Any:
        if request.pipeline_id == "p":
            raise RuntimeError("of its own")
        return start(request)

    monkeypatch.setattr(starting, "start", stumble)
    sweeps.sweep()
    assert [row.pipeline_id for row in Execution.objects.all()] == ["q"]
    assert "the schedule of p stumbled" in caplog.text


# --- changes -----------------------------------------------------------------------------------------


def test_saving_the_same_schedule_keeps_what_is_due(clock):
    make()
    clock.shift(60)
    replace()
    assert due() == "01 12:00"


def test_another_schedule_counts_from_now(clock):
    make()
    clock.shift(60)
    replace("30 * * * *")
    assert due() == "01 12:30"


def test_a_pipeline_without_a_schedule_has_none(clock):
    make()
    replace(None)
    assert not Schedule.objects.exists()
    assert not PeriodicTask.objects.exists()
    assert not CrontabSchedule.objects.exists()
    with pytest.raises(NoSchedule):
        schedules.pause_schedule(pipeline_id="p", caller=ANONYMOUS)


def test_a_paused_schedule_starts_nothing_and_makes_up_for_nothing(clock):
    make()
    schedules.pause_schedule(pipeline_id="p", caller=ANONYMOUS)
    clock.move_to(datetime(2030, 1, 1, 15, 10, tzinfo=UTC))
    sweeps.sweep()
    start_schedule(pipeline_id="p")
    replace("30 * * * *")
    assert (started(), due()) == ([], "")
    schedules.resume_schedule(pipeline_id="p", caller=ANONYMOUS)
    assert due() == "01 15:30"
    told = AuditEntry.objects.filter(action__startswith="schedule.").order_by("at")
    assert [entry.action for entry in told] == ["schedule.pause", "schedule.resume"]


# --- beat --------------------------------------------------------------------------------------------


def task() -> PeriodicTask:
    return PeriodicTask.objects.get(name="pipelines.schedule.p")


def test_beat_is_told_of_every_change(clock):
    make("5 9 * * 1", timezone="Europe/Berlin")
    shown = task().crontab
    assert (shown.minute, shown.hour, shown.day_of_week) == ("5", "9", "1")
    assert str(shown.timezone) == "Europe/Berlin"
    for change in (
        lambda: replace("*/2 * * * *"),
        lambda: schedules.pause_schedule(pipeline_id="p", caller=ANONYMOUS),
        lambda: schedules.resume_schedule(pipeline_id="p", caller=ANONYMOUS),
        lambda: replace(None),
    ):
        before = PeriodicTasks.last_change()
        clock.shift(1)
        change()
        assert PeriodicTasks.last_change() > before
    assert CrontabSchedule.objects.count() == 0


def test_a_pause_is_one_for_beat_too(clock):
    make()
    schedules.pause_schedule(pipeline_id="p", caller=ANONYMOUS)
    assert not task().enabled
    replace("30 * * * *")
    assert not task().enabled


def test_beat_knocks_daily_where_either_day_will_do(clock):
    make("0 0 13 * 5")
    shown = task().crontab
    assert (shown.day_of_month, shown.day_of_week) == ("*", "*")


def test_a_refused_document_changes_nothing(clock):
    make()
    with pytest.raises(Invalid) as refused:
        replace("0 25 * * *", timezone="Mars/Olympus")
    assert [error["field"] for error in refused.value.detail["errors"]] == [
        "options.schedule",
        "options.timezone",
    ]
    assert task().crontab.hour == "*"


def test_a_deleted_pipeline_takes_its_schedule_along(clock):
    make()
    services.delete_pipeline(pipeline_id="p", force=False, caller=ANONYMOUS)
    assert not Schedule.objects.exists()
    assert not PeriodicTask.objects.exists()
