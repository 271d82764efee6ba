"""The token of a run opens the storage of its own execution, as long as its attempt lasts, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from apps.access import services as access
from apps.runs.models import Run
from apps.runs.states import RunState
from tests import aio
from tests.contract.storage.conftest import refused
from tests.factories import make_run, make_worker
from tests.object_client import OBJECTS, call, get, put, send
from tests.object_writer import close_spaces

if TYPE_CHECKING:
    from tests.object_client import Answer

pytestmark = pytest.mark.django_db(transaction=True)


def token_of(run: Any) -> str:
    return access.issue_run_token(run.id, run.current_attempt)


@pytest.fixture
def run(execution, owner):
    """Return a running run of the execution; there are keys, so the doors are closed."""
    return make_run(RunState.RUNNING, worker=make_worker(), execution_id=UUID(execution), step="s")


def test_it_writes_and_reads_in_its_own_execution(execution, run):
    answer = put(f"{execution}/s/a", b"x", authorization=f"Bearer {token_of(run)}")
    assert (answer.status, answer.json()["run_id"]) == (201, str(run.id))
    assert get(f"{execution}/s/a", authorization=f"Bearer {token_of(run)}").content == b"x"
    url = f"{OBJECTS}?execution_id={execution}"
    assert call("GET", url, authorization=f"Bearer {token_of(run)}").json()["total"] == 1


def test_it_sees_no_other(opened, run):
    other = opened()
    refused(
        put(f"{other}/s/a", authorization=f"Bearer {token_of(run)}"), 404, "execution_not_found"
    )
    refused(
        get(f"{other}/s/a", authorization=f"Bearer {token_of(run)}"), 404, "execution_not_found"
    )


def test_it_hears_of_its_own_execution_only(opened, execution, run):
    other = opened()
    close_spaces(execution, other)
    events = "/api/v1/storage/events?replay=true"
    bearer = f"Bearer {token_of(run)}"
    assert call("GET", f"{events}&execution_id={execution}", authorization=bearer).status == 200
    both = f"{events}&execution_id={execution}&execution_id={other}"
    refused(call("GET", both, authorization=bearer), 404, "execution_not_found")


def test_it_deletes_nothing(execution, run):
    put(f"{execution}/s/a", authorization=f"Bearer {token_of(run)}")
    answer = call("DELETE", f"{OBJECTS}/{execution}/s/a", authorization=f"Bearer {token_of(run)}")
    refused(answer, 403, "forbidden")


def test_it_ends_with_its_attempt(execution, run):
    token = token_of(run)
    Run.objects.filter(pk=run.pk).update(current_attempt=2)
    refused(put(f"{execution}/s/a", authorization=f"Bearer {token}"), 401, "unauthorized")


def test_a_run_without_an_execution_has_no_storage(execution, owner):
    lone = make_run(RunState.RUNNING, worker=make_worker())
    answer = put(f"{execution}/s/a", authorization=f"Bearer {token_of(lone)}")
    refused(answer, 404, "execution_not_found")


def test_runs_that_write_together_are_told_apart(opened, owner):
    executions = [opened() for _ in range(4)]
    worker = make_worker()
    runs = [
        make_run(RunState.RUNNING, worker=worker, execution_id=UUID(one), step="s")
        for one in executions
    ]
    tokens = [token_of(one) for one in runs]
    Run.objects.filter(pk=runs[3].pk).update(current_attempt=2)

    async def scene() -> list[Answer]:
        wanted = [
            (executions[0], tokens[0]),
            (executions[1], tokens[1]),
            (executions[1], tokens[2]),
            (executions[3], tokens[3]),
        ]
        return await asyncio.gather(
            *(
                send("PUT", f"{OBJECTS}/{execution}/s/{n}", b"x", authorization=f"Bearer {token}")
                for n, (execution, token) in enumerate(wanted)
            )
        )

    answers = aio.run(scene())
    assert [answer.status for answer in answers] == [201, 201, 404, 401]
    told = [answer.json().get("run_id") for answer in answers]
    assert told == [str(runs[0].id), str(runs[1].id), None, None]
