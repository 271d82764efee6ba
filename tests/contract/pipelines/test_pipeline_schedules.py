"""Schedules over HTTP, on paths of ours (pipelines-storage.md §1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine

from apps.pipelines import sweeps
from tests.cast import client_for
from tests.contract.pipelines.conftest import complaints, refusal

pytestmark = pytest.mark.django_db

URL = "/api/v1/pipelines/team.nightly"


@pytest.fixture
def clock():
    with time_machine.travel(datetime(2030, 1, 1, 1, tzinfo=UTC), tick=False) as moving:
        yield moving


def make(api: Any, **options: Any) -> Any:
    document = {
        "id": "team.nightly",
        "name": "Nightly",
        "options": options,
        "steps": [{"name": "a", "command": ["true"]}],
    }
    return api.post("/api/v1/pipelines/", document)


def test_a_schedule_is_part_of_the_document_and_has_a_state(clock, api):
    made = make(api, schedule="30 3 * * *", timezone="Europe/Berlin").json()
    assert made["options"] == {"schedule": "30 3 * * *", "timezone": "Europe/Berlin"}
    assert api.get(f"{URL}/schedule").json() == {
        "pipeline_id": "team.nightly",
        "schedule": "30 3 * * *",
        "timezone": "Europe/Berlin",
        "paused": False,
        "next_at": "2030-01-01T02:30:00.000000Z",
        "last_at": None,
        "last_execution_id": None,
        "started": 0,
    }


def test_the_execution_says_when_it_was_due(clock, api):
    make(api, schedule="30 3 * * *", timezone="Europe/Berlin")
    clock.move_to(datetime(2030, 1, 1, 2, 30, 1, tzinfo=UTC))
    sweeps.sweep()
    [execution] = api.get("/api/v1/executions/?pipeline_id=team.nightly").json()["executions"]
    assert execution["trigger"] == {
        "type": "schedule",
        "scheduled_at": "2030-01-01T02:30:00.000000Z",
        "attempt": 1,
    }
    state = api.get(f"{URL}/schedule").json()
    assert (state["started"], state["last_execution_id"]) == (1, execution["id"])
    assert state["next_at"] == "2030-01-02T02:30:00.000000Z"


def test_it_is_paused_and_resumed(clock, api):
    make(api, schedule="0 * * * *")
    state = api.post(f"{URL}/schedule/pause").json()
    assert (state["paused"], state["next_at"]) == (True, None)
    state = api.post(f"{URL}/schedule/resume").json()
    assert (state["paused"], state["next_at"]) == (False, "2030-01-01T02:00:00.000000Z")


def test_complaints_have_their_paths(api):
    found = complaints(make(api, schedule="0 0 31 2 *", timezone="Europe/Berlinn"))
    assert found == {
        "options.schedule": 'names a day that never comes, got "0 0 31 2 *"',
        "options.timezone": 'must be an IANA name such as Europe/Berlin, got "Europe/Berlinn"',
    }
    assert set(complaints(make(api, schedule=5, timezone=[]))) == {
        "options.schedule",
        "options.timezone",
    }
    # As empty as none.
    assert make(api, schedule="", timezone=None).status_code == 201


@pytest.mark.parametrize("path", ["schedule", "schedule/pause", "schedule/resume"])
def test_a_pipeline_without_one_says_so(api, path):
    make(api)
    call = api.get if path == "schedule" else api.post
    refusal(call(f"{URL}/{path}"), 404, "no_schedule")
    refusal(call(f"/api/v1/pipelines/nope/{path}"), 404, "not_found")


def test_others_may_not(owner, stranger, reader):
    make(client_for(owner), schedule="0 * * * *")
    assert client_for(stranger).get(f"{URL}/schedule").status_code == 404
    assert client_for(stranger).post(f"{URL}/schedule/pause").status_code == 404
    assert client_for(reader).get(f"{URL}/schedule").status_code == 200
    assert client_for(reader).post(f"{URL}/schedule/pause").status_code == 403
