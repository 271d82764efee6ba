"""The console's first page: how things stand."""

from __future__ import annotations

import re

import pytest

from apps.access.auth import ANONYMOUS
from apps.pipelines import services, triggers
from apps.runs.states import RunState
from tests.contract.console.conftest import start
from tests.factories import make_run, make_worker

pytestmark = pytest.mark.django_db


def figures(said: str) -> dict[str, int]:
    found = re.findall(r"<dt>([^<]*)</dt><dd>(?:<a [^>]*>)?(\d+)", said)
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
    # The session, who it belongs to, executions twice, their stages, runs, counts twice, workers twice, triggers five times.
    with django_assert_max_num_queries(15):
        operator.get("/console/")
