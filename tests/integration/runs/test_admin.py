from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.models import AuditEntry
from apps.core import ids
from apps.runs import transitions
from apps.runs.models import LogChunk, Run, Worker
from apps.runs.states import EventType, RunState, WorkerState
from tests.factories import make_run, make_worker


@pytest.fixture
def operator(admin_user) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def onlooker(django_user_model) -> Client:
    client = Client()
    client.force_login(django_user_model.objects.create_user("onlooker", is_staff=True))
    return client


def act(client: Client, model: str, action: str, *rows, **data) -> list[str]:
    body = {"action": action, "_selected_action": [str(row.pk) for row in rows], **data}
    answer = client.post(f"/admin/runs/{model}/", body, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def queries_of(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["run", "attempt", "worker"])
def test_a_list_costs_the_same_whatever_its_length(operator, model):
    counts = []
    for round_ in range(2):
        for index in range(5):
            worker = make_worker(f"w{round_}{index}")
            make_run(RunState.RUNNING, worker=worker, topic="t")
            failed = make_run(RunState.FAILED)
            with transitions.batch() as moves:
                transitions.reopen(moves, transitions.get_live(moves, failed.id), reason="x")
        counts.append(queries_of(operator, f"/admin/runs/{model}/"))
    assert counts[0] == counts[1] <= 6


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query", ["state__exact=FAILED", "op_definition=team.op", "topic=t", "worker_id=worker-1"]
)
def test_runs_are_filtered(operator, query):
    worker = make_worker()
    found = make_run(RunState.FAILED, op_definition="team.op", topic="t", worker=worker)
    make_run()
    page = operator.get(f"/admin/runs/run/?{query}").content.decode()
    assert set(re.findall(r"/admin/runs/run/([0-9a-f-]{36})/change", page)) == {str(found.id)}


@pytest.mark.django_db
def test_runs_are_found_by_id(operator):
    run = make_run()
    make_run()
    page = operator.get(f"/admin/runs/run/?q={run.id}").content.decode()
    assert set(re.findall(r"/admin/runs/run/([0-9a-f-]{36})/change", page)) == {str(run.id)}
    assert operator.get(f"/admin/runs/run/?q={ids.uuid7()}").status_code == 200
    assert operator.get("/admin/runs/run/?q=nonsense").status_code == 200


@pytest.mark.django_db
def test_the_page_of_a_run_shows_timeline_attempts_and_log(operator):
    run = make_run(RunState.FAILED)
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        transitions.reopen(moves, live, reason="once more")
        moves.note(live, EventType.INFO, "<b>half</b> way")
    LogChunk.objects.create(run=run, attempt=2, start=0, content=b"line <1>\n\xff")
    page = operator.get(f"/admin/runs/run/{run.id}/change/").content.decode()
    assert "once more" in page
    assert "&lt;b&gt;half&lt;/b&gt; way" in page
    assert "line &lt;1&gt;" in page
    assert 'name="state"' not in page
    assert queries_of(operator, f"/admin/runs/run/{run.id}/change/") <= 7


@pytest.mark.django_db
def test_runs_are_cancelled_and_what_can_not_be_is_told(operator):
    waiting, done = make_run(), make_run(RunState.COMPLETED)
    told = act(operator, "run", "cancel", waiting, done)
    assert Run.objects.get(pk=waiting.pk).state == RunState.CANCELLED
    assert any("COMPLETED" in message for message in told)
    assert any("1" in message for message in told)
    assert AuditEntry.objects.get(action="run.cancel").actor_name == "admin"


@pytest.mark.django_db
def test_runs_are_retried(operator):
    run = make_run(RunState.FAILED)
    act(operator, "run", "retry", run)
    stored = Run.objects.get(pk=run.pk)
    assert (stored.state, stored.current_attempt) == (RunState.PENDING, 2)


@pytest.mark.django_db
def test_priorities_are_asked_for_and_set(operator):
    runs = [make_run(), make_run()]
    act(operator, "run", "reprioritise", *runs)
    assert set(Run.objects.values_list("priority", flat=True)) == {5}
    act(operator, "run", "reprioritise", *runs, apply="1", priority="4000")
    assert set(Run.objects.values_list("priority", flat=True)) == {5}
    act(operator, "run", "reprioritise", *runs, apply="1", priority="40")
    assert set(Run.objects.values_list("priority", flat=True)) == {40}


@pytest.mark.django_db
def test_workers_are_drained_and_resumed(operator):
    worker = make_worker()
    act(operator, "worker", "drain", worker)
    assert Worker.objects.get().state == WorkerState.DRAINING
    act(operator, "worker", "resume", worker)
    assert Worker.objects.get().state == WorkerState.READY


@pytest.mark.django_db
def test_who_may_only_look_has_no_actions(onlooker):
    run = make_run()
    assert onlooker.get(f"/admin/runs/run/{run.id}/change/").status_code == 200
    act(onlooker, "run", "cancel", run)
    assert Run.objects.get().state == RunState.PENDING


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["run", "attempt", "worker"])
def test_rows_are_neither_added_nor_deleted(operator, model):
    assert operator.get(f"/admin/runs/{model}/add/").status_code == 403
    run = make_run()
    make_worker("w")
    act(operator, "run", "delete_selected", run, post="yes")
    assert Run.objects.count() == 1


@pytest.mark.django_db
def test_json_stands_over_several_lines_and_times_say_their_zone(operator):
    run = make_run(inputs={"a": {"deep": "<b>"}})
    page = operator.get(f"/admin/runs/run/{run.id}/change/").content.decode()
    assert "{\n  &quot;a&quot;: {\n    &quot;deep&quot;: &quot;&lt;b&gt;&quot;" in page
    assert f"{run.created_at:%Y-%m-%d %H:%M:%S}Z" in page


@pytest.mark.django_db
def test_a_workers_page_leads_to_the_runs_it_holds(operator):
    worker = make_worker("w")
    held, done = make_run(RunState.RUNNING, worker=worker), make_run(RunState.COMPLETED)
    page = operator.get("/admin/runs/worker/w/change/").content.decode()
    assert f"/admin/runs/run/{held.id}/change/" in page
    assert str(done.id) not in page


@pytest.mark.django_db
@pytest.mark.parametrize("chosen", ["\x00", "x", "0" * 5000])
def test_an_action_on_what_is_no_run_is_a_bad_request(operator, chosen):
    operator.raise_request_exception = False
    body = {"action": "cancel", "_selected_action": [chosen]}
    answer = operator.post("/admin/runs/run/", body)
    assert (answer.status_code, answer["Content-Type"]) == (400, "text/html; charset=utf-8")
