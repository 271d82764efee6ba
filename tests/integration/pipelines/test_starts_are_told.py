"""The start of a run: its stage says so soon, and whoever follows the execution hears of it."""

from __future__ import annotations

import msgspec
import pytest

from apps.pipelines.execution import engine, started
from apps.pipelines.transitions import EVENTS_TOPIC
from apps.topics.queries import read_after

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = [{"name": "a", "command": ["true"]}, {"name": "b", "command": ["true"]}]


def told(execution) -> list[str]:
    page = read_after(EVENTS_TOPIC, 0, 100)
    assert page
    events = [msgspec.json.decode(one.data) for one in page.records]
    return [f"{one['stage']} {one['type']}" for one in events if one["stage"] == "a"]


@pytest.fixture
def running(monkeypatch):
    """Return the engine of this process, whose turns the test takes; starts are due at once."""
    monkeypatch.setattr(started, "PATIENCE_SECONDS", 1e-9)
    made = engine.Engine()
    monkeypatch.setattr(engine, "_engine", made)
    made.work()
    return made


def test_a_stage_is_processing_soon_after_its_run_has_started(driver, running):
    execution = driver.advance(driver.start(STEPS))
    driver.begin(driver.runs(execution, "a")[0].id)
    assert driver.statuses(execution) == {"a": "initiated", "b": "initiated"}
    running.work()
    assert driver.statuses(execution) == {"a": "processing", "b": "initiated"}
    running.work()
    driver.end(driver.runs(execution, "a")[0].id)
    running.work()
    assert told(execution) == ["a stage.initiated", "a stage.processing", "a stage.completed"]


def test_a_run_that_ends_at_once_is_told_whole_by_one_turn(driver, running):
    execution = driver.advance(driver.start(STEPS))
    run = driver.begin(driver.runs(execution, "a")[0].id)
    driver.end(run)
    running.work()
    assert told(execution) == ["a stage.initiated", "a stage.processing", "a stage.completed"]


def test_without_an_engine_the_execution_is_woken(driver):
    execution = driver.advance(driver.start(STEPS))
    driver.begin(driver.runs(execution, "a")[0].id)
    engine.run_once()
    assert driver.statuses(execution)["a"] == "processing"
