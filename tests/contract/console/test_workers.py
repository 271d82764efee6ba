"""Workers in the console: who is there, and whether they take more."""

from __future__ import annotations

import pytest

from apps.access.models import AuditEntry
from apps.runs.states import RunState, WorkerState
from tests.factories import make_run, make_worker

pytestmark = pytest.mark.django_db

LIST = "/console/workers"


def test_workers_are_listed_with_what_they_hold(operator, django_assert_max_num_queries):
    rows = [make_worker(f"<b>/{n}", slots=None if n else 4) for n in range(5)]
    run = make_run(RunState.RUNNING, worker=rows[0])
    # The session, who it belongs to, runs that are held, workers.
    with django_assert_max_num_queries(4):
        said = operator.get(LIST).content.decode()
    assert "&lt;b&gt;/0" in said
    assert f'href="/console/runs/{run.id}"' in said
    assert "1/4" in said
    assert "<b>" not in said


def test_a_worker_is_drained_and_resumed(operator):
    worker = make_worker("a/b c")
    for deed, state in (("drain", WorkerState.DRAINING), ("resume", WorkerState.READY)):
        answer = operator.post(f"{LIST}/{deed}", {"worker": worker.pk})
        assert (answer.status_code, answer["Location"]) == (302, LIST)
        worker.refresh_from_db()
        assert worker.state == state
        assert AuditEntry.objects.get(action=f"worker.{deed}").target == worker.pk


@pytest.mark.parametrize("worker", ["", "nobody"])
def test_a_worker_that_is_not_there_is_told(operator, worker):
    operator.post(f"{LIST}/drain", {"worker": worker})
    assert 'class="error"' in operator.get(LIST).content.decode()


def test_who_may_only_look_sees_no_button_and_can_press_none(looker):
    worker = make_worker()
    assert 'action="/console/' not in looker.get(LIST).content.decode()
    assert looker.post(f"{LIST}/drain", {"worker": worker.pk}).status_code == 403
    worker.refresh_from_db()
    assert worker.state == WorkerState.READY
