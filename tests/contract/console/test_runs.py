"""Runs in the console: lists, pages, and what an operator does with them."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from apps.access.models import AuditEntry
from apps.console.runs import lists
from apps.runs.models import LogChunk, Run
from apps.runs.states import RunState
from tests.factories import make_run

pytestmark = pytest.mark.django_db

LIST = "/console/runs"


def listed(answer) -> list[str]:
    assert answer.status_code == 200, answer.content
    return re.findall(rf'href="{LIST}/([0-9a-f-]{{36}})"', answer.content.decode())


def page(operator, run: Run) -> str:
    answer = operator.get(f"{LIST}/{run.id}")
    assert answer.status_code == 200
    return str(answer.content.decode())


# --- the list ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1, 0]),
        ("op=&state=&topic=&execution_id=", [2, 1, 0]),
        ("op=resize", [0]),
        ("topic=team.x", [1]),
        ("state=FAILED", [2]),
        ("state=FAILED&topic=team.x", []),
    ],
)
def test_runs_are_listed_newest_first_and_narrowed(operator, query, found):
    rows = [
        make_run(op_definition="resize", op_version="1"),
        make_run(topic="team.x"),
        make_run(RunState.FAILED),
    ]
    assert listed(operator.get(f"{LIST}?{query}")) == [str(rows[n].id) for n in found]


def test_runs_of_an_execution_are_listed(operator):
    execution = uuid4()
    run = make_run(execution_id=execution, step="load")
    make_run()
    assert listed(operator.get(f"{LIST}?execution_id={execution}")) == [str(run.id)]


@pytest.mark.parametrize(
    "query",
    ["state=odd", "op=%00", "execution_id=x", "older_than=x", f"older_than={uuid4()}"],
)
def test_a_bad_query_is_a_page(operator, query):
    answer = operator.get(f"{LIST}?{query}")
    assert answer.status_code == 400
    assert answer["Content-Type"].startswith("text/html")


def test_pages_lead_to_each_other_without_hole_or_double(operator, monkeypatch):
    monkeypatch.setattr(lists, "PAGE", 2)
    rows = [str(make_run().id) for _ in range(4)][::-1]
    first = operator.get(LIST)
    second = operator.get(f"{LIST}?older_than={rows[1]}")
    assert [listed(first), listed(second)] == [rows[:2], rows[2:]]
    assert f'rel="next" href="?older_than={rows[1]}"' in first.content.decode()
    assert 'rel="prev"' not in first.content.decode()
    assert 'rel="next"' not in second.content.decode()
    back = operator.get(f"{LIST}?newer_than={rows[2]}")
    assert listed(back) == rows[:2]
    assert 'rel="prev"' not in back.content.decode()


def test_a_list_takes_few_queries(operator, django_assert_max_num_queries):
    for _ in range(10):
        make_run()
    # The session, who it belongs to, the runs.
    with django_assert_max_num_queries(3):
        operator.get(LIST)


# --- the page ------------------------------------------------------------------------------------


def test_the_page_shows_a_run_and_nothing_of_it_runs(operator):
    run = make_run(RunState.FAILED, error_message="<script>x</script>", inputs={"a": "<b>"})
    LogChunk.objects.create(run=run, attempt=1, start=0, content=b"<i>said</i>\n")
    said = page(operator, run)
    assert "&lt;script&gt;x&lt;/script&gt;" in said
    assert "&lt;i&gt;said&lt;/i&gt;\n</pre>" in said
    assert "&quot;a&quot;: &quot;&lt;b&gt;&quot;" in said
    assert "data-final" in said


def test_a_long_log_begins_near_its_end_and_is_followed_from_there(operator):
    run = make_run(RunState.RUNNING)
    piece = 40_000
    for n in range(3):
        LogChunk.objects.create(run=run, attempt=1, start=n * piece, content=b"%d" % n * piece)
    said = page(operator, run)
    assert f'data-end="{3 * piece}"' in said
    assert "Only its end is shown." in said
    assert "data-final" not in said


def test_a_page_takes_few_queries(operator, django_assert_max_num_queries):
    run = make_run(RunState.RUNNING)
    # The session, who it belongs to, the run, its timeline, its attempts and their events, its log.
    with django_assert_max_num_queries(7):
        page(operator, run)


@pytest.mark.parametrize("path", [str(uuid4()), "nobody", "%00"])
def test_a_run_that_is_not_there_is_a_page(operator, path):
    answer = operator.get(f"{LIST}/{path}")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


# --- deeds ---------------------------------------------------------------------------------------


def press(operator, run: Run, deed: str, **given: str) -> str:
    """Press a button; return what is told."""
    answer = operator.post(f"{LIST}/{run.id}/{deed}", given)
    assert (answer.status_code, answer["Location"]) == (302, f"{LIST}/{run.id}")
    found = re.search(r'<ul class="told".*?</ul>', page(operator, run), re.DOTALL)
    assert found
    return found[0]


def test_cancel(operator, admin_user):
    run = make_run()
    assert "Cancelled" in press(operator, run, "cancel", reason="a reason")
    run.refresh_from_db()
    assert run.state == RunState.CANCELLED
    entry = AuditEntry.objects.get(action="run.cancel")
    assert (entry.actor, entry.target) == (f"user:{admin_user.pk}", str(run.id))


def test_retry_and_what_may_not_be_retried(operator):
    run = make_run(RunState.COMPLETED)
    assert 'class="error"' in press(operator, run, "retry")
    run = make_run(RunState.FAILED)
    assert "Queued again" in press(operator, run, "retry")
    run.refresh_from_db()
    assert (run.state, run.current_attempt) == (RunState.PENDING, 2)
    assert AuditEntry.objects.get(action="run.retry").target == str(run.id)


def test_who_may_only_look_sees_no_button_and_can_press_none(looker):
    run = make_run()
    assert 'action="/console/' not in page(looker, run)
    for deed in ("cancel", "retry"):
        assert looker.post(f"{LIST}/{run.id}/{deed}").status_code == 403
    run.refresh_from_db()
    assert run.state == RunState.PENDING
