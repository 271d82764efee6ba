"""Event triggers: the documented answers to the letter, and ours beside them (pipelines-storage.md §2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.pipelines import sweeps
from apps.pipelines.execution import engine
from apps.pipelines.triggering import dispatching
from apps.runs.states import WorkerState
from apps.topics.services import NewEvent, append_events
from tests.cast import client_for
from tests.contract.pipelines.conftest import complaints, refusal
from tests.factories import make_worker

pytestmark = pytest.mark.django_db

URL = "/api/v1/events/team.orders"


def make(api: Any, **over: Any) -> None:
    document = {
        "id": "team.orders",
        "name": "Orders",
        "options": {"event": "team.topic", "trigger": {"start": "earliest"}},
        "steps": [
            {"name": "a", "command": ["true"], "inputs": {"n": {"$ref": "trigger.data.n"}}},
            {"name": "b", "command": ["true"], "needs": ["a"]},
        ],
        **over,
    }
    assert api.post("/api/v1/pipelines/", document).status_code == 201


def publish(*data: Any, **record: Any) -> None:
    append_events(
        [
            NewEvent(topic="team.topic", data=msgspec.json.encode(one).decode(), **record)
            for one in data
        ]
    )


def test_starting_answers_exactly_this(api):
    make(api)
    answer = api.post(URL)
    assert (answer.status_code, answer.content) == (
        200,
        b'{"message":"Event started successfully"}',
    )
    again = api.post(URL + "?pipeline_version=1")
    assert (again.status_code, again.content) == (200, b'{"message":"Event started successfully"}')


def test_ready_is_true_once_it_listens_and_a_worker_is_there(api):
    make(api)
    assert api.get(URL).content == b'{"ready":false}'
    publish({"n": 1})
    api.post(URL)
    assert api.get(URL).content == b'{"ready":false}'
    worker = make_worker()
    assert api.get(URL).content == b'{"ready":true}'
    worker.state = WorkerState.LOST
    worker.save()
    assert api.get(URL).content == b'{"ready":false}'


def test_a_topic_that_is_still_to_come_is_listened_to(api):
    make(api)
    make_worker()
    api.post(URL)
    assert api.get(URL).content == b'{"ready":true}'
    status = api.get(URL + "/status").json()
    assert status["state"] == "listening"
    found = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert found["TopicResolved"] == (False, "TopicMissing")
    assert found["CursorPinned"] == (True, "AtBeginning")
    publish({"n": 1})
    assert api.get(URL).content == b'{"ready":true}'
    dispatching.dispatch_due()
    assert api.get(URL + "/status").json()["started"] == 1


def test_deleting_answers_exactly_this_however_often(api):
    make(api)
    for _ in range(2):
        answer = api.delete(URL)
        assert (answer.status_code, answer.content) == (
            200,
            b'{"message":"Event deleted successfully"}',
        )
        api.post(URL)
        assert api.delete(URL).content == b'{"message":"Event deleted successfully"}'
    assert api.get(URL).content == b'{"ready":false}'


def test_the_checks_come_in_their_order(owner, reader, stranger):
    api = client_for(owner)
    refusal(client_for().post(URL), 401, "unauthorized")
    refusal(client_for(reader).post(URL), 403, "forbidden")
    refusal(api.post(URL), 404, "not_found")
    make(api, options={})
    refusal(client_for(stranger).post(URL), 404, "not_found")
    refusal(api.post(URL + "?pipeline_version=7"), 404, "version_not_found")
    body = refusal(api.post(URL), 500, "NO_EVENT_OPTION")
    assert body["detail"] == "Pipeline does not have an event option"
    assert body["correlation_id"]


def test_an_empty_event_option_is_none(api):
    make(api, options={"event": ""})
    refusal(api.post(URL), 500, "NO_EVENT_OPTION")


@pytest.mark.parametrize("call", ["get", "post", "delete"])
def test_an_unknown_pipeline_is_not_found(api, call):
    refusal(getattr(api, call)("/api/v1/events/nope"), 404, "not_found")


def test_status_tells_what_it_does(api):
    make(api)
    assert api.get(URL + "/status").json()["state"] == "stopped"
    publish({"n": 1}, {"n": 2})
    make_worker()
    api.post(URL)
    before = api.get(URL + "/status").json()
    assert (before["state"], before["topic"], before["pipeline_version"]) == (
        "listening",
        "team.topic",
        "1",
    )
    assert before["cursor"]["position"] == 0
    assert before["cursor"]["pending"] == 2
    assert before["cursor"]["oldest_pending_age_s"] >= 0
    assert before["instances"] == {"current": 0, "desired": 2, "min": 0, "max": 4}
    sweeps.sweep()
    after = api.get(URL + "/status").json()
    assert (after["received"], after["started"], after["cursor"]["pending"]) == (2, 2, 0)
    assert after["instances"]["current"] == 2
    assert after["last_execution_id"]
    kinds = {one["type"]: one["status"] for one in after["conditions"]}
    assert kinds == {
        "PipelineResolved": True,
        "TopicResolved": True,
        "CursorPinned": True,
        "RunnerReady": True,
        "DeadLetterResolved": True,
    }
    [listed] = api.get("/api/v1/events/").json()["items"]
    assert {k: v for k, v in listed.items() if after[k] != v} == {}


def test_pause_and_resume(api):
    make(api)
    refusal(api.post(URL + "/pause"), 409, "trigger_not_started")
    api.post(URL)
    assert api.post(URL + "/pause").json()["state"] == "paused"
    assert api.get(URL).content == b'{"ready":false}'
    assert api.post(URL + "/resume").json()["state"] != "paused"


def test_a_message_can_be_tried(api):
    make(
        api,
        options={
            "event": "team.topic",
            "trigger": {"filter": [{"field": "data.n", "op": "gt", "value": 1}]},
        },
    )
    hit = api.post(URL + "/test", {"data": {"n": 2}, "tag": "t"}).json()
    assert (hit["matched"], hit["reason"], hit["steps"]) == (True, None, {"a": {"n": 2}})
    assert (hit["trigger"]["data"], hit["trigger"]["tag"]) == ({"n": 2}, "t")
    miss = api.post(URL + "/test", {"data": {"n": 1}}).json()
    assert miss["matched"] is False
    assert miss["reason"] == "data.n is 1, wanted gt 1"
    assert set(complaints(api.post(URL + "/test", {"x": 1}))) == {"data", "x"}
    assert api.get("/api/v1/executions/").json()["total"] == 0


@pytest.mark.parametrize("index", ["9" * 5000, "²", "1_0"])
def test_what_is_no_index_of_a_list_matches_nothing(api, index):
    filters = [{"field": f"data.{index}", "op": "exists", "value": True}]
    make(api, options={"event": "team.topic", "trigger": {"filter": filters}})
    assert api.post(URL + "/test", {"data": list(range(20))}).json()["matched"] is False


def test_dead_letters_are_listed_and_redriven(api):
    make(api)
    publish({"n": 1}, {"n": 2}, meta='{"gyoza_hops": 16}')
    api.post(URL)
    engine.run_once()
    page = api.get(URL + "/dead-letters?limit=1").json()
    assert page["has_more"] is True
    [letter] = page["items"]
    assert (letter["seq"], letter["reason"], letter["message"]["data"]) == (1, "loop", {"n": 1})
    assert [one["seq"] for one in api.get(URL + "/dead-letters?after=1").json()["items"]] == [2]
    assert api.post(URL + "/redrive", {"seqs": [2]}).content == b'{"redriven":1}'
    assert api.post(URL + "/redrive").content == b'{"redriven":1}'
    assert api.post(URL + "/redrive").content == b'{"redriven":0}'
    assert set(complaints(api.post(URL + "/redrive", {"seqs": ["x", -1]}))) == {"seqs.0", "seqs.1"}


def test_a_stranger_finds_nothing_and_a_reader_changes_nothing(owner, stranger, reader):
    make(client_for(owner))
    client_for(owner).post(URL)
    assert client_for(stranger).get("/api/v1/events/").json()["items"] == []
    for path in ("", "/status", "/dead-letters"):
        refusal(client_for(stranger).get(URL + path), 404, "not_found")
    for path in ("", "/pause", "/resume", "/test", "/redrive"):
        refusal(client_for(reader).post(URL + path, {"data": 1}), 403, "forbidden")


def test_the_list_costs_the_same_whatever_its_length(api):
    counts = []
    for round_ in range(2):
        for number in range(4):
            name = f"team.p{round_}{number}"
            make(api, id=name, options={"event": f"team.t{number}"})
            api.post(f"/api/v1/events/{name}")
        publish({"n": 1})
        with CaptureQueriesContext(connection) as captured:
            assert len(api.get("/api/v1/events/").json()["items"]) == 4 * (round_ + 1)
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 6
