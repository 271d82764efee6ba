"""The admin pages of pipelines, of what starts them, and of executions: doors to the same services as the API."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse

from apps.access.auth import ANONYMOUS
from apps.access.models import AuditEntry
from apps.pipelines import services, triggers
from apps.pipelines.execution import engine
from apps.pipelines.models import DeadLetter, Execution, Pipeline, Schedule, Trigger, Version
from apps.pipelines.triggering import dispatching
from apps.topics.services import NewEvent, append_events

pytestmark = pytest.mark.django_db

PIPELINES = "/admin/pipelines/pipeline/"
TRIGGERS = "/admin/pipelines/autostart/"
EXECUTIONS = "/admin/pipelines/execution/"

YAML = """\
id: team.orders
name: Orders
options:
  event: team.topic
  schedule: 0 3 * * *
steps:
  - name: load
    command: [echo, "<b>"]
  - name: ask
    adapter: approve
    inputs: {message: 'Shall it go on?'}
    needs: [load]
"""


@pytest.fixture
def operator(admin_user) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def looker(django_user_model) -> Client:
    client = Client()
    client.force_login(django_user_model.objects.create_user("looker", is_staff=True))
    return client


def make(identity: str = "p", **over: Any) -> Pipeline:
    body = {
        "id": identity,
        "name": identity,
        "steps": [{"name": "a", "command": ["true"]}],
        **over,
    }
    return services.create_pipeline(body=body, caller=ANONYMOUS)[0]


def listening(identity: str = "p", **trigger: Any) -> Pipeline:
    options = {"event": f"{identity}.topic", "trigger": trigger}
    pipeline = make(identity, options=options)
    triggers.start_trigger(pipeline_id=identity, version=None, caller=ANONYMOUS)
    return pipeline


def publish(topic: str, *data: Any) -> None:
    append_events([NewEvent(topic, msgspec.json.encode(one).decode()) for one in data])


def started(identity: str = "p", **over: Any) -> Execution:
    make(identity, **over)
    return services.run_pipeline(pipeline_id=identity, caller=ANONYMOUS)


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def queries_of(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def act(client: Client, path: str, action: str, *rows: Any) -> str:
    answer = client.post(
        path, {"action": action, "_selected_action": [str(row) for row in rows]}, follow=True
    )
    assert answer.status_code == 200
    return answer.content.decode()


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("at").values_list("action", flat=True))


# --- pipelines -----------------------------------------------------------------------------------------


def test_a_pipeline_is_made_of_yaml(operator):
    answer = operator.post(f"{PIPELINES}add/", {"document": YAML})
    assert answer.status_code == 302
    pipeline = Pipeline.objects.get()
    assert (pipeline.pk, pipeline.latest, pipeline.event) == ("team.orders", 1, "team.topic")
    assert Schedule.objects.get().cron == "0 3 * * *"
    assert Version.objects.get().created_by.startswith("user")
    assert "pipeline.create" in actions()
    page = text_of(operator, f"{PIPELINES}team.orders/change/")
    assert "<svg" in page
    assert "<b>" not in page
    assert "Shall it go on?" in page


def test_every_complaint_is_told_beside_the_document(operator):
    document = '{"name": "", "options": {"schedule": "x"}, "steps": [{"name": "<i>", "op": "no.such"}], "typo": 1}'
    page = operator.post(f"{PIPELINES}add/", {"document": document}).content.decode()
    for complaint in (
        "name: must not be empty",
        "options.schedule: must have five fields",
        "steps.0.op: ",
        "typo: ",
    ):
        assert complaint in page
    assert "no.such" in page
    assert "<i>" not in page
    assert not Pipeline.objects.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ('{"a": 1, "a": 2}', "a"),
        ("- 1", "must be"),
        ("name: x\nid: p\nsteps: [{name: a, command: [x]}]", "id: there is a pipeline p"),
    ],
)
def test_a_text_that_is_no_document_is_refused(operator, text, said):
    make()
    answer = operator.post(f"{PIPELINES}add/", {"document": text})
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert Pipeline.objects.count() == 1


def test_saving_makes_a_version_unless_it_says_the_same(operator):
    make()
    path = f"{PIPELINES}p/change/"
    form = operator.get(path).context["adminform"].form
    same = form.initial["document"]
    page = operator.post(path, {"document": same}, follow=True).content.decode()
    assert "no new version" in page
    page = operator.post(
        path, {"document": same + "metadata: {a: 1}\n"}, follow=True
    ).content.decode()
    assert "Version 2 is saved" in page
    assert Pipeline.objects.get().latest == 2
    assert "pipeline.replace" in actions()
    # An earlier version is opened, and can be saved again.
    earlier = operator.get(f"{path}?version=1").context["adminform"].form.initial["document"]
    assert earlier == same
    operator.post(f"{path}?version=1", {"document": earlier})
    assert Pipeline.objects.get().latest == 3


def test_a_pipeline_keeps_its_id(operator):
    make()
    text = "id: q\nname: p\nsteps: [{name: a, command: ['true']}]"
    page = operator.post(f"{PIPELINES}p/change/", {"document": text}).content.decode()
    assert "id: is p and stays so" in page


def test_a_pipeline_that_goes_meanwhile_is_told_of(operator, monkeypatch):
    make()
    validate = services.validate_pipeline

    def and_delete(**given: Any) -> Any:
        found = validate(**given)
        services.delete_pipeline(pipeline_id="p", force=True, caller=ANONYMOUS)
        return found

    monkeypatch.setattr(services, "validate_pipeline", and_delete)
    text = "name: p\nsteps: [{name: b, command: ['true']}]"
    page = operator.post(f"{PIPELINES}p/change/", {"document": text}, follow=True).content.decode()
    assert "Pipeline p not found" in page


def test_yaml_is_exported_as_it_can_be_applied(operator):
    make(metadata={"é": [1, None, "2"]})
    answer = operator.get(f"{PIPELINES}p/export/")
    assert answer["Content-Type"] == "application/yaml"
    assert answer["Content-Disposition"] == 'attachment; filename="p-v1.yaml"'
    operator.post(f"{PIPELINES}p/remove/", {"apply": "1"})
    operator.post(f"{PIPELINES}add/", {"document": answer.content.decode()})
    assert msgspec.json.decode(Version.objects.get().document)["metadata"] == {"é": [1, None, "2"]}
    for unknown in ("nope", "%00"):
        assert operator.get(f"{PIPELINES}{unknown}/export/").status_code == 404


def test_an_id_that_no_row_can_have_leads_back_to_the_list(operator):
    assert operator.get(f"{PIPELINES}%00/change/").status_code == 302


def test_a_pipeline_is_run_with_inputs(operator):
    make()
    page = operator.post(f"{PIPELINES}p/run/", {"inputs": '{"a": "\\u0000"}'}).content.decode()
    assert not Execution.objects.exists()
    page = operator.post(f"{PIPELINES}p/run/", {"inputs": '{"a": 1}'}, follow=True).content.decode()
    execution = Execution.objects.get()
    assert f"Execution {execution.id} of version 1 is started" in page
    assert execution.inputs == {"a": 1}
    assert "Started: p" in act(operator, PIPELINES, "run_all", "p")


def test_a_name_that_looks_like_an_escape_is_no_other(operator):
    make("a_bc_5F", options={"event": "orders"})
    for page in (PIPELINES, TRIGGERS):
        listed = text_of(operator, page)
        [path] = set(re.findall(rf'href="({page}[^"/]+/change/)', listed))
        text_of(operator, path)
    assert operator.post(path.replace("change", "start"), {"apply": "1"}).status_code == 302
    assert Trigger.objects.get().is_started
    path = path.replace("autostart", "pipeline")
    [export] = set(re.findall(r'href="([^"]+/export/)\?', text_of(operator, path)))
    assert operator.get(export).status_code == 200
    operator.post(path.replace("change", "remove"), {"apply": "1", "force": "on"})
    assert not Pipeline.objects.exists()


def test_a_pipeline_in_use_is_deleted_by_force_only(operator):
    started()
    page = operator.post(f"{PIPELINES}p/remove/", {"apply": "1"}).content.decode()
    assert "running executions" in page
    operator.post(f"{PIPELINES}p/remove/", {"apply": "1", "force": "on"})
    assert not Pipeline.objects.exists()
    assert "pipeline.delete" in actions()


def test_who_may_only_look_changes_nothing(looker):
    execution = started()
    page = text_of(looker, f"{PIPELINES}p/change/")
    assert "<textarea" not in page
    assert "name: a" in page
    assert looker.post(f"{PIPELINES}p/change/", {"document": YAML}).status_code == 403
    assert looker.get(f"{PIPELINES}add/").status_code == 403
    assert looker.get(f"{PIPELINES}p/export/").status_code == 200
    for path in (
        f"{PIPELINES}p/run/",
        f"{PIPELINES}p/remove/",
        f"{EXECUTIONS}{execution.pk}/cancel/",
    ):
        assert looker.post(path, {"inputs": "{}"}).status_code in (302, 403)
    assert Execution.objects.count() == 1
    assert Execution.objects.get().cancel_requested_at is None
    assert "<option" not in text_of(looker, EXECUTIONS).partition('name="action"')[2][:10]


# --- what starts them ----------------------------------------------------------------------------------


def test_a_trigger_that_was_never_started_is_started_here(operator):
    make(options={"event": "orders"})
    make("plain")
    page = text_of(operator, TRIGGERS)
    assert "stopped" in page
    assert "plain" not in page
    assert "Started: p" in act(operator, TRIGGERS, "start", "p")
    assert Trigger.objects.get().is_started
    for action in ("pause", "resume", "stop"):
        assert "p" in act(operator, TRIGGERS, action, "p")
    assert not Trigger.objects.get().is_started
    assert [one for one in actions() if one.startswith("trigger.")] == [
        "trigger.start",
        "trigger.pause",
        "trigger.resume",
        "trigger.stop",
    ]


def test_buttons_ask_first(operator):
    make(options={"event": "orders"})
    path = f"{TRIGGERS}p/start/"
    assert "now on" in text_of(operator, path)
    assert not Trigger.objects.exists()
    assert operator.post(path, {"apply": "1"}).status_code == 302
    assert Trigger.objects.get().is_started
    page = operator.post(f"{TRIGGERS}p/resume-schedule/", {"apply": "1"}).content.decode()
    assert "has no schedule" in page


def test_a_triggers_page_shows_lag_counters_conditions_and_dead_letters(operator, driver):
    listening(start="earliest", max_concurrency=1)
    publish("p.topic", {"n": "<i>"}, {"n": 2}, {"n": 3})
    dispatching.dispatch_due()
    execution = Execution.objects.get()
    driver.advance(execution)
    driver.end(driver.runs(execution)[0].id, error="boom <u>")
    driver.advance(execution)
    engine.run_once(dispatches=False)
    page = text_of(operator, f"{TRIGGERS}p/change/")
    assert "CursorPinned" in page
    assert "boom &lt;u&gt;" in page
    assert "<i>" not in page
    assert str(execution.id) in page
    assert DeadLetter.objects.count() == 1
    operator.post(f"{TRIGGERS}p/redrive/", {"apply": "1"})
    assert not DeadLetter.objects.exists()
    assert "trigger.redrive" in actions()


def test_schedules_stand_beside_triggers(operator):
    with time_machine.travel(datetime.now(UTC).replace(minute=10), tick=False):
        make(options={"schedule": "0 * * * *", "timezone": "Europe/Berlin"})
        page = text_of(operator, TRIGGERS)
        assert "0 * * * * Europe/Berlin" in page
        assert "scheduled" in page
        assert "Schedule paused: p" in act(operator, TRIGGERS, "pause_schedule", "p")
        assert Schedule.objects.get().is_paused
        assert "paused" in text_of(operator, f"{TRIGGERS}p/change/")
        operator.post(f"{TRIGGERS}p/resume-schedule/", {"apply": "1"})
    assert not Schedule.objects.get().is_paused


# --- executions ----------------------------------------------------------------------------------------


def test_an_execution_shows_its_stages_runs_and_errors(operator, driver):
    execution = started(
        steps=[
            {"name": "a/b", "command": ["true"]},
            {"name": "c", "command": ["true"], "needs": ["a/b"]},
        ]
    )
    execution = driver.advance(execution)
    run = driver.runs(execution)[0]
    driver.end(run.id, error="boom <u>")
    driver.advance(execution)
    page = text_of(operator, f"{EXECUTIONS}{execution.id}/change/")
    assert f"/admin/runs/run/{run.id}/change/" in page
    assert "boom &lt;u&gt;" in page
    assert "gz-step-failed" in page
    assert "gz-step-cancelled" in page
    assert (
        "Under way again"
        in operator.post(
            f"{EXECUTIONS}{execution.id}/retry/", {"apply": "1"}, follow=True
        ).content.decode()
    )
    assert Execution.objects.get().status == "running"
    operator.post(f"{EXECUTIONS}{execution.id}/cancel/", {"reason": "too late"})
    assert Execution.objects.get().cancel_reason == "too late"
    assert {"execution.retry", "execution.cancel"} <= set(actions())


def test_executions_are_cancelled_and_retried_together(operator):
    one, other = started("p"), started("q")
    assert "Cancelled" in act(operator, EXECUTIONS, "cancel", one.pk, other.pk)
    assert set(Execution.objects.values_list("status", flat=True)) == {"cancelled"}
    assert "Under way again" in act(operator, EXECUTIONS, "retry", one.pk, other.pk)
    assert set(Execution.objects.values_list("status", flat=True)) == {"running"}
    # What can't be is told for each.
    assert "can&#x27;t be retried" in act(operator, EXECUTIONS, "retry", one.pk)


def test_an_execution_is_replayed_from_a_step(operator, driver):
    second = {"name": "b/c", "command": ["true"], "needs": ["a"]}
    execution = started(steps=[{"name": "a", "command": ["true"]}, second])
    path = f"{EXECUTIONS}{execution.id}/replay/"
    sent = {"from_stage": "b/c", "tag": "again"}
    # It has to end first.
    assert "is running" in operator.post(path, sent).content.decode()
    driver.end_all(execution, lambda run: {})
    assert "b/c" in text_of(operator, path)
    page = operator.post(path, sent, follow=True).content.decode()
    child = Execution.objects.get(parent=execution)
    assert f"Execution {child.id} repeats this one" in page
    assert driver.statuses(child) == {"a": "completed", "b/c": "pending"}
    assert (child.tag, actions().count("execution.replay")) == ("again", 1)
    # Names that are taken and steps there are none of are told beside the form.
    assert "has the tag again" in operator.post(path, sent).content.decode()
    unknown = operator.post(path, {"from_stage": "z"}).content.decode()
    assert "Select a valid choice" in unknown


def test_an_approval_is_answered_with_a_comment(operator, driver):
    steps = [{"name": "may it/go", "adapter": "approve", "inputs": {"message": "Shall <it>?"}}]
    execution = driver.advance(started(steps=steps))
    page = text_of(operator, f"{EXECUTIONS}{execution.id}/change/")
    assert "Shall &lt;it&gt;?" in page
    path = f"{EXECUTIONS}{execution.id}/answer/"
    assert f"{path}?stage=may%20it%2Fgo" in page
    assert "Shall &lt;it&gt;?" in text_of(operator, f"{path}?stage=may%20it%2Fgo")
    operator.post(path, {"stage": "may it/go", "answer": "yes", "comment": "fine"})
    execution = driver.advance(execution)
    assert execution.outputs["may it/go"] == {
        "approved": True,
        "by": "admin",
        "comment": "fine",
    }
    assert "execution.approve" in actions()
    # Nobody answers twice.
    assert "No step waits" in text_of(operator, path)
    page = operator.post(path, {"stage": "may it/go", "answer": "no"}).content.decode()
    assert "Select a valid choice" in page


def test_an_execution_is_found_by_id_and_by_tag(operator):
    make()
    execution = services.run_pipeline(pipeline_id="p", caller=ANONYMOUS, tag="monday")
    services.run_pipeline(pipeline_id="p", caller=ANONYMOUS, tag="tuesday")
    for term in ("monday", str(execution.id)):
        page = text_of(operator, f"{EXECUTIONS}?q={term}")
        assert "monday" in page
        assert "tuesday" not in page


@pytest.mark.parametrize("page", [PIPELINES, TRIGGERS, EXECUTIONS])
def test_what_is_not_there_is_no_error_of_ours(operator, page):
    for path in ("nope/change/", "00000000-0000-0000-0000-000000000000/change/"):
        assert operator.get(f"{page}{path}").status_code == 302


# --- what it costs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PIPELINES, TRIGGERS, EXECUTIONS])
def test_a_list_costs_the_same_whatever_its_length(operator, path):
    counts = []
    for round_ in range(2):
        for number in range(3):
            name = f"p{round_}{number}"
            make(name, options={"event": f"{name}.topic", "schedule": "0 * * * *"})
            triggers.start_trigger(pipeline_id=name, version=None, caller=ANONYMOUS)
            publish(f"{name}.topic", 1)
            dispatching.dispatch_due()
            services.run_pipeline(pipeline_id=name, caller=ANONYMOUS)
        counts.append(queries_of(operator, path))
    assert counts[0] == counts[1] <= 12


def test_a_page_costs_the_same_whatever_it_shows(operator, driver):
    steps = [{"name": "s0", "command": ["true"]}]
    one = driver.advance(started("one", steps=steps))
    steps += [{"name": f"s{number}", "command": ["true"]} for number in range(1, 12)]
    many = driver.advance(started("many", steps=steps))
    counts = [queries_of(operator, f"{EXECUTIONS}{row.id}/change/") for row in (one, many)]
    assert counts[0] == counts[1] <= 8
    for name in ("one", "many"):
        counts.append(queries_of(operator, f"{PIPELINES}{name}/change/"))
    assert counts[2] == counts[3] <= 10


def test_rows_of_beat_have_no_pages():
    with pytest.raises(NoReverseMatch):
        reverse("admin:django_celery_beat_periodictask_changelist")
