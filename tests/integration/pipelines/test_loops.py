"""Pipelines that listen to what they cause without publishing it (pipelines-storage.md §2: loops)."""

from __future__ import annotations

from typing import Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.pipelines import services, triggers
from apps.pipelines.execution import engine
from apps.pipelines.models import DeadLetter, Execution
from apps.pipelines.triggering import dispatching
from tests.factories import make_definition, make_run

pytestmark = pytest.mark.django_db

WRITE = {"name": "a", "adapter": "storage.write", "inputs": {"path": "x", "content": "y"}}
OP = {"name": "a", "op": "team.op"}


def listen(topic: str, step: dict[str, Any], **trigger: Any) -> None:
    body = {
        "id": "p",
        "name": "p",
        "steps": [step],
        "options": {"event": topic, "trigger": trigger},
    }
    services.create_pipeline(body=body, caller=ANONYMOUS)
    triggers.start_trigger(pipeline_id="p", version=None, caller=ANONYMOUS)


def dispatch() -> list[Execution]:
    while dispatching.dispatch_due().more:
        pass
    return list(Execution.objects.filter(pipeline_id="p"))


def test_a_pipeline_that_stores_when_something_is_stored_is_stopped(driver):
    driver.advance(driver.start([WRITE]))
    listen("system.storage.events", WRITE)
    driver.advance(driver.start([WRITE]))
    for _ in range(200):
        if not engine.run_once().was_busy:
            break
    started = Execution.objects.filter(pipeline_id="p")
    assert sorted(started.values_list("hops", flat=True)) == list(range(1, 16))
    assert DeadLetter.objects.get().reason == "loop"


@pytest.mark.parametrize("batch", [{}, {"batch": {"max": 1, "wait_ms": 0}}])
def test_what_runs_of_steps_tell_counts_as_what_their_execution_has_published(driver, batch):
    make_definition(event_delivery={"topic": "orders"})
    listen("orders", OP, max_concurrency=10, **batch)
    execution = driver.advance(driver.start([OP]))
    Execution.objects.filter(pk=execution.pk).update(hops=14)
    [run] = driver.runs(execution)
    driver.begin(run.id)
    assert {one.hops for one in dispatch()} == {15}
    Execution.objects.filter(pk=execution.pk).update(hops=15)
    driver.end(run.id)
    dispatch()
    assert DeadLetter.objects.get().reason == "loop"


def test_runs_of_no_execution_lead_to_the_first_hop(driver):
    make_definition(event_delivery={"topic": "orders"})
    listen("orders", OP)
    driver.begin(make_run(topic="orders").id)
    assert {one.hops for one in dispatch()} == {0}
