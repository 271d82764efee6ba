"""Executions in the console: lists, pages, and what an operator does with them."""

from __future__ import annotations

import re

import pytest

from apps.access.auth import ANONYMOUS
from apps.access.models import AuditEntry
from apps.console.executions import lists
from apps.pipelines import services
from apps.pipelines.models import Execution
from apps.pipelines.states import ExecutionStatus
from tests.contract.console.conftest import start

pytestmark = pytest.mark.django_db

LIST = "/console/executions"
RUN = [{"name": "load", "command": ["true"]}]


def listed(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    return re.findall(rf'href="{LIST}/([0-9a-f-]{{36}})"', answer.content.decode())


def page(operator, row, status: int = 200) -> str:
    answer = operator.get(f"{LIST}/{row.id}")
    assert answer.status_code == status
    return str(answer.content.decode())


# --- the list ------------------------------------------------------------------------------------


def test_executions_are_listed_newest_first(operator):
    rows = [start() for _ in range(3)]
    assert listed(operator.get(LIST)) == [str(row.id) for row in reversed(rows)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("pipeline_id=team.q", [1]),
        ("tag=second", [1]),
        ("status=cancelled", [0]),
        ("pipeline_id=team.q&status=cancelled", []),
        ("pipeline_id=&status=&tag=", [1, 0]),
    ],
)
def test_the_list_is_narrowed(operator, query, found):
    rows = [start("team.p", tag="first"), start("team.q", tag="second")]
    services.cancel_execution(named="first", caller=ANONYMOUS)
    assert listed(operator.get(f"{LIST}?{query}")) == [str(rows[n].id) for n in found]


def test_pages_lead_to_each_other_without_hole_or_double(operator, monkeypatch):
    monkeypatch.setattr(lists, "PAGE", 2)
    rows = [str(start().id) for _ in range(5)]
    wanted = [rows[::-1][n : n + 2] for n in (0, 2, 4)]
    path, there = LIST, []
    while path:
        answer = operator.get(path)
        there.append(listed(answer))
        path = link(answer, "next")
    assert there == wanted
    path, back = link(answer, "prev"), []
    while path:
        answer = operator.get(path)
        back.append(listed(answer))
        path = link(answer, "prev")
    assert back == wanted[1::-1]


def link(answer, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]*)"', answer.content.decode())
    return f"{LIST}{found[1].replace('&amp;', '&')}" if found else ""


def test_a_list_takes_few_queries(operator, django_assert_max_num_queries):
    for n in range(10):
        start(f"team.{n}")
    # The session, who it belongs to, the executions, how many of their stages have ended.
    with django_assert_max_num_queries(4):
        operator.get(LIST)


# --- the page ------------------------------------------------------------------------------------


def test_an_execution_is_found_by_id_and_by_tag(operator):
    row = start(tag="nightly-1")
    assert "nightly-1</h1>" in page(operator, row)
    assert operator.get(f"{LIST}/nightly-1").status_code == 200


def test_the_page_shows_stages_and_what_they_wait_for_and_nothing_of_it_runs(operator):
    said = page(operator, start(inputs={"text": "</pre><script>x</script>"}))
    assert "waits for: Shall &lt;it&gt;?" in said
    assert 'class="gz-step gz-step-processing"' in said
    assert "&lt;/pre&gt;&lt;script&gt;" in said


def test_a_page_takes_few_queries_however_many_stages(operator, django_assert_max_num_queries):
    steps = [{"name": f"s{n}", "command": ["true"]} for n in range(30)]
    row = start(steps=steps)
    # The session, who it belongs to, the execution, its stages, their counts, states of their runs, the space.
    with django_assert_max_num_queries(7):
        page(operator, row)


# --- deeds ---------------------------------------------------------------------------------------


def press(operator, row, deed: str, **given: str) -> str:
    """Press a button; return where it leads and what is told there."""
    answer = operator.post(f"{LIST}/{row.id}/{deed}", given)
    assert answer.status_code == 302, answer.content
    told = operator.get(answer["Location"]).content.decode()
    found = re.search(r'<ul class="told".*?</ul>', told, re.DOTALL)
    assert found
    return f"{answer['Location']} {found[0]}"


def audited(action: str) -> AuditEntry:
    return AuditEntry.objects.get(action=action)


def test_cancel(operator, admin_user):
    row = start()
    assert "Cancelled" in press(operator, row, "cancel", reason="a reason")
    row.refresh_from_db()
    assert (row.status, row.cancel_reason) == (ExecutionStatus.CANCELLED, "a reason")
    entry = audited("execution.cancel")
    assert (entry.actor, entry.target) == (f"user:{admin_user.pk}", str(row.id))


def test_retry_and_what_may_not_be_retried(operator):
    row = start()
    assert 'class="error"' in press(operator, row, "retry")
    services.cancel_execution(named=str(row.id), caller=ANONYMOUS)
    assert "Under way again" in press(operator, row, "retry")
    row.refresh_from_db()
    assert row.status == ExecutionStatus.RUNNING
    assert audited("execution.retry").target == str(row.id)


def test_replay_leads_to_the_new_execution(operator):
    row = start(tag="taken")
    assert 'class="error"' in press(operator, row, "replay", from_stage="ask")
    services.cancel_execution(named=str(row.id), caller=ANONYMOUS)
    assert 'class="error"' in press(operator, row, "replay", from_stage="nowhere")
    assert 'class="error"' in press(operator, row, "replay", from_stage="ask", tag="taken")
    told = press(operator, row, "replay", from_stage="ask", tag="again")
    child = Execution.objects.get(tag="again")
    assert told.startswith(f"{LIST}/{child.id} ")
    assert child.parent_id == row.id
    assert audited("execution.replay").target == str(child.id)


@pytest.mark.parametrize(("answer", "approved"), [("yes", True), ("no", False)])
def test_an_approval_is_answered(operator, answer, approved):
    row = start()
    press(operator, row, "answer", stage="ask", answer=answer, comment="seen")
    assert audited("execution.approve").detail["approved"] is approved
    assert 'class="error"' in press(operator, row, "answer", stage="nowhere", answer=answer)


@pytest.mark.parametrize("given", [{"reason": "\0"}, {"reason": "x" * 10_001}])
def test_what_cannot_be_kept_is_refused(operator, given):
    answer = operator.post(f"{LIST}/{start().id}/cancel", given)
    assert answer.status_code == 400
    assert not AuditEntry.objects.filter(action="execution.cancel").exists()


def test_a_deed_on_nothing_is_told(operator):
    answer = operator.post(f"{LIST}/nobody/cancel")
    assert answer.status_code == 302
    assert operator.get(answer["Location"]).status_code == 404
