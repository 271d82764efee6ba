"""The console's first page: how things stand."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine

from apps.access.auth import ANONYMOUS
from apps.core import clock, ids
from apps.pipelines import services, triggers
from apps.runs.states import RunState
from tests.contract.console.conftest import start
from tests.factories import make_run, make_worker

pytestmark = pytest.mark.django_db


def figures(said: str, part: str = "figures") -> dict[str, int]:
    [shown] = re.findall(rf'<section id="{part}".*?</section>', said, re.DOTALL)
    found = re.findall(r"<dt>([^<]*)</dt><dd>(?:<a [^>]*>)?(\d+)", shown)
    return {name: int(count) for name, count in found}


def test_it_tells_what_is_under_way_and_what_has_failed(operator):
    make_worker("worker-1")
    make_run(RunState.RUNNING)
    make_run()
    failed = make_run(RunState.FAILED, error_message="<b>no space")
    row = start()
    said = operator.get("/console/").content.decode()
    assert figures(said) == {
        "executions running": 1,
        "executions queued": 0,
        "executions interrupted": 0,
        "runs running": 1,
        "runs waiting": 1,
        "of these, not due yet": 0,
    }
    assert f"/console/executions/{row.id}" in said
    assert f"/console/runs/{failed.id}" in said
    assert "&lt;b&gt;no space" in said
    assert "worker-1" in said
    assert "1/" in said


def test_an_empty_system_says_what_is_missing(operator):
    said = operator.get("/console/").content.decode()
    assert "No worker is there" in said
    assert set(figures(said).values()) == {0}


def test_what_was_made_in_the_last_minute_is_counted(operator):
    make_run(RunState.COMPLETED)
    make_run(RunState.FAILED)
    start()
    with time_machine.travel(clock.now() + timedelta(seconds=61), tick=False):
        make_run(RunState.FAILED, id=ids.lowest_at(clock.now()))
        said = operator.get("/console/").content.decode()
        shown = re.findall(
            r"<dt>([^<]*)</dt><dd>(?:<a [^>]*>)?(\d+)", said.partition('id="lately"')[2]
        )
    assert shown[:6] == [
        ("executions made", "0"), ("of these, completed", "0"), ("and failed", "0"),
        ("runs made", "1"), ("of these, completed", "0"), ("and failed", "1"),
    ]  # fmt: skip
    said = operator.get("/console/").content.decode()
    assert figures(said, "lately")["executions made"] == 1
    # The one of a minute later is there, too; and the run of the step.
    assert figures(said, "lately")["runs made"] == 3


def test_triggers_that_take_no_messages_are_named(operator):
    steps = [{"name": "a", "command": ["true"]}]
    for name in ("calm", "paused"):
        body = {"id": name, "name": name, "options": {"event": "topic"}, "steps": steps}
        services.create_pipeline(body=body, caller=ANONYMOUS)
        triggers.start_trigger(pipeline_id=name, version=None, caller=ANONYMOUS)
    triggers.pause_trigger(pipeline_id="paused", caller=ANONYMOUS)
    said = operator.get("/console/").content.decode()
    assert 'href="/console/pipelines/paused"' in said
    assert "Triggers to look at" in said


def test_it_takes_few_queries_however_much_there_is(operator, django_assert_max_num_queries):
    for n in range(8):
        start(f"team.{n}")
        make_run(RunState.FAILED)
    # The session, who it belongs to, executions twice, their stages, runs, counts four times, records,
    # workers twice, triggers five times.
    with django_assert_max_num_queries(18):
        operator.get("/console/")
