"""Pipelines in the console: lists, pages, and what an operator does with what starts them."""

from __future__ import annotations

import re

import pytest

from apps.access.auth import ANONYMOUS
from apps.access.models import AuditEntry
from apps.pipelines import services, triggers
from apps.pipelines.models import DeadLetter, Execution, Schedule, Trigger
from apps.topics.services import NewEvent, append_events
from tests.contract.console.conftest import start

pytestmark = pytest.mark.django_db

LIST = "/console/pipelines"


def make(identity: str = "team.p", **options: str) -> None:
    steps = [{"name": "load", "command": ["echo", "<b>"]}]
    body = {"id": identity, "name": f"<i>{identity}", "options": options, "steps": steps}
    services.apply_pipeline(body=body, caller=ANONYMOUS)


def page(operator, path: str = "team.p") -> str:
    answer = operator.get(f"{LIST}/{path}")
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def press(operator, deed: str, identity: str = "team.p", **given: str) -> str:
    """Press a button; return where it leads and what is told there."""
    answer = operator.post(f"{LIST}/{identity}/{deed}", given)
    assert answer.status_code == 302, answer.content
    told = operator.get(answer["Location"]).content.decode()
    found = re.search(r'<ul class="told".*?</ul>', told, re.DOTALL)
    assert found
    return f"{answer['Location']} {found[0]}"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["team.a", "team.b"]),
        ("event=topic", ["team.b"]),
        ("name=%3Ci%3Eteam.a", ["team.a"]),
        ("after=team.a", ["team.b"]),
        ("after=zzz", []),
    ],
)
def test_pipelines_are_listed_and_narrowed(operator, query, found):
    make("team.b", event="topic")
    make("team.a")
    said = operator.get(f"{LIST}?{query}").content.decode()
    assert re.findall(rf'href="{LIST}/([^"]*)"', said) == found
    assert "<i>" not in said


@pytest.mark.parametrize("path", ["nobody", "%00", "team.p?version=7", "team.p?version=x"])
def test_what_is_not_there_is_a_page(operator, path):
    make()
    answer = operator.get(f"{LIST}/{path}")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("query", ["name=%00", "event=%00", "after=%00"])
def test_a_bad_query_is_a_page(operator, query):
    assert operator.get(f"{LIST}?{query}").status_code == 400


def test_a_page_shows_graph_document_and_executions(operator):
    make()
    row = start("team.p", tag="one")
    said = page(operator)
    assert "gz-graph" in said
    assert f"/console/executions/{row.id}" in said
    assert "version 2" in said
    assert "&lt;b&gt;" in page(operator, "team.p?version=1")
    assert "<b>" not in said


def test_the_graph_shows_how_far_the_newest_execution_of_its_version_is(operator):
    row = start("team.p", tag="one")
    assert "gz-step-processing" in page(operator)
    assert f'how far <a href="/console/executions/{row.id}">one</a> is' in page(operator)
    # Another version: nothing of it is under way.
    make()
    assert "how far" not in page(operator)
    assert "gz-step-processing" not in page(operator)
    assert "gz-step-processing" in page(operator, "team.p?version=1")
    services.cancel_execution(named="one", reason="", caller=ANONYMOUS)
    assert "how far" not in page(operator, "team.p?version=1")


def test_a_page_takes_few_queries(operator, django_assert_max_num_queries):
    make(event="topic", schedule="0 3 * * *")
    triggers.start_trigger(pipeline_id="team.p", version=None, caller=ANONYMOUS)
    for _ in range(10):
        services.run_pipeline(pipeline_id="team.p", caller=ANONYMOUS)
    # The session, who it belongs to, the pipeline twice, its trigger, workers, plans, what runs, the backlog, the version,
    # its versions, its schedule, dead letters, executions, how many of their stages have ended,
    # the stages of one.
    with django_assert_max_num_queries(16):
        page(operator)


def test_an_execution_is_started(operator):
    make()
    assert 'class="error"' in press(operator, "run", inputs="{")
    assert 'class="error"' in press(operator, "run", inputs="[]")
    told = press(operator, "run", inputs='{"n": 1}', tag="one")
    row = Execution.objects.get(tag="one")
    assert told.startswith(f"/console/executions/{row.id} ")
    assert row.inputs == {"n": 1}


def test_a_trigger_is_started_paused_resumed_and_stopped(operator):
    make(event="topic")
    assert f'action="{LIST}/team.p/trigger/start"' in page(operator)
    for deed, is_started, is_paused in (
        ("start", True, False),
        ("pause", True, True),
        ("resume", True, False),
        ("stop", False, False),
    ):
        assert 'class="success"' in press(operator, f"trigger/{deed}")
        row = Trigger.objects.get(pk="team.p")
        assert (row.is_started, row.is_paused) == (is_started, is_paused), deed
        assert AuditEntry.objects.filter(action=f"trigger.{deed}").exists()


def test_a_trigger_tells_its_lag_and_its_instances(operator):
    make(event="topic")
    append_events([NewEvent(topic="topic", data="1")])
    triggers.start_trigger(pipeline_id="team.p", version=1, caller=ANONYMOUS)
    append_events([NewEvent(topic="topic", data=str(n)) for n in range(3)])
    said = page(operator)
    assert "<dt>waiting</dt><dd>3</dd>" in said
    assert "running, 3 wanted, 4 at most" in said
    assert "<dt>starts</dt><dd>version 1</dd>" in said


def test_dead_letters_are_shown_and_redriven(operator):
    make(event="topic")
    triggers.start_trigger(pipeline_id="team.p", version=None, caller=ANONYMOUS)
    letter = {"topic_id": 1, "topic": "topic", "seq": 7, "attempts": 1, "message": '{"data":"<b>"}'}
    DeadLetter.objects.create(pipeline_id="team.p", reason="loop", **letter)
    assert "{&quot;data&quot;:&quot;&lt;b&gt;&quot;}" in page(operator)
    assert "Dead letters taken up again: 0." in press(operator, "trigger/redrive", seq="8")
    assert "Dead letters taken up again: 1." in press(operator, "trigger/redrive", seq="7")
    assert "Dead letters taken up again: 0." in press(operator, "trigger/redrive")
    assert operator.post(f"{LIST}/team.p/trigger/redrive", {"seq": "x"}).status_code == 400


def test_a_schedule_is_paused_and_resumed(operator):
    make(schedule="0 3 * * *")
    press(operator, "schedule/pause")
    assert Schedule.objects.get(pk="team.p").is_paused
    press(operator, "schedule/resume")
    assert not Schedule.objects.get(pk="team.p").is_paused


def test_a_button_that_does_not_fit_is_told(operator):
    make()
    assert 'class="error"' in press(operator, "trigger/pause")
    assert 'class="error"' in press(operator, "schedule/pause")
    assert operator.post(f"{LIST}/team.p/trigger/explode").status_code == 404


def test_who_may_only_look_sees_no_button_and_can_press_none(looker):
    make(event="topic", schedule="0 3 * * *")
    assert 'action="/console/' not in page(looker)
    for deed in ("run", "trigger/start", "schedule/pause", "trigger/redrive"):
        assert looker.post(f"{LIST}/team.p/{deed}").status_code == 403
    assert not Trigger.objects.filter(is_started=True).exists()
