"""topics v0 §18.1 and §18.3: what a claim gets, and who waits how long."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import connection

from apps.topics.models import WaitingClaim
from tests.cast import make_key
from tests.contract.topics.conftest import refused
from tests.contract.topics.queue_client import Queue
from tests.contract.topics.sse import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.topics.conftest import Api

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = int(START.timestamp() * 1000)


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as moved:
        yield moved


def later(clock: Any, ms: int) -> None:
    clock.shift(ms / 1000)


def test_it_answers_as_the_example(api: Api, clock: Any):
    queue = Queue(api, "label-printing")
    api.post(
        queue.path, {"records": [{"data": {"copies": 1}, "tag": "order/5512", "node": "shop"}]}
    )
    api.post(queue.path, {"records": [{"data": {"copies": 3}, "meta": {"tray": "A"}}]})
    queue.put(5, 6)
    later(clock, 1000)
    answer = queue.call("claim", node="printer-b", max=2, lease_ms=20_000)
    assert set(answer.pop("performance")) == {"server_total_ms"}
    [first, second] = answer["claimed"]
    assert list(first) == ["$seq", "lease_id", "deadline", "$ts", "$tag", "deliveries", "data"]
    assert list(second) == ["$seq", "lease_id", "deadline", "$ts", "deliveries", "data", "meta"]
    assert answer == {
        "topic": "label-printing",
        "claimed": [
            {
                "$seq": 1,
                "lease_id": "lease_1",
                "deadline": NOW + 21_000,
                "$ts": NOW,
                "$tag": "order/5512",
                "deliveries": 1,
                "data": {"copies": 1},
            },
            {
                "$seq": 2,
                "lease_id": "lease_2",
                "deadline": NOW + 21_000,
                "$ts": NOW,
                "deliveries": 1,
                "data": {"copies": 3},
                "meta": {"tray": "A"},
            },
        ],
        "count": 2,
        "ready": 2,
    }


def test_a_job_is_what_was_written_byte_for_byte(api: Api):
    """★16."""
    queue = Queue(api)
    api.post(
        queue.path, b'{"records":[{"data":{"z":1.50,"a":"\\u00e4"},"meta":{"b":1e2,"a":[ ]}}]}'
    )
    text = api.post(f"{queue.path}/claim", {"node": "w"}).content
    assert b'"data":{"z":1.50,"a":"\\u00e4"},"meta":{"b":1e2,"a":[ ]}' in text


def test_nobody_gets_a_job_that_somebody_has(api: Api):
    queue = Queue(api)
    queue.put(*"abcd")
    assert queue.claim_seqs(3, node="a") == [1, 2, 3]
    assert queue.claim_seqs(3, node="a") == [4]
    assert queue.claim_seqs(3, node="b") == []


def test_by_default_one_job_is_given_for_the_queues_lease(api: Api, clock: Any):
    queue = Queue(api, lease_ms=1234)
    queue.put(1, 2)
    [job] = queue.call("claim", node="w")["claimed"]
    assert job["deadline"] == NOW + 1234
    assert queue.claim_seqs(0) == [2]


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 100), (100, 100), (86_400_001, 86_400_000), (None, 30_000)]
)
def test_leases_are_clamped(api: Api, clock: Any, asked: int | None, given: int):
    queue = Queue(api)
    queue.put(1)
    [job] = queue.claim(lease_ms=asked)
    assert job["deadline"] == NOW + given


def test_a_claim_gets_a_thousand_jobs_at_most(api: Api):
    queue = Queue(api)
    queue.put(*range(1002))
    answer = queue.call("claim", node="w", max=5000)
    assert (answer["count"], answer["ready"]) == (1000, 2)
    assert [job["$seq"] for job in answer["claimed"]] == list(range(1, 1001))


def test_a_lease_is_over_after_its_deadline_and_not_at_it(api: Api, clock: Any):
    """§18.1: strictly."""
    queue = Queue(api)
    queue.put(1)
    queue.claim(lease_ms=1000)
    later(clock, 1000)
    assert (queue.depth(), queue.claim()) == ((0, 1, 0), [])
    later(clock, 1)
    assert queue.depth() == (1, 0, 0)
    [job] = queue.claim(node="other")
    assert (job["$seq"], job["deliveries"], job["lease_id"]) == (1, 2, "lease_2")


def test_returned_jobs_come_first_and_lowest_first(api: Api, clock: Any):
    queue = Queue(api)
    queue.put(*range(8))
    queue.claim(4, lease_ms=1000)
    queue.nack(3)
    queue.nack(1)
    later(clock, 1001)
    assert queue.claim_seqs(5) == [1, 2, 3, 4, 5]


def test_lease_ids_only_rise(api: Api):
    queue = Queue(api)
    queue.put(1, 2)
    seen = []
    for _ in range(20):
        seen += [int(job["lease_id"].removeprefix("lease_"), 16) for job in queue.claim(2)]
        queue.nack(1, 2)
    assert seen == sorted(set(seen))
    assert len(seen) == 40


def test_a_worker_may_receive_what_it_wrote(api: Api):
    """§15: node filters don't apply to claims."""
    queue = Queue(api)
    api.post(queue.path, {"node": "w", "records": [{"data": 1}]})
    assert queue.claim_seqs(node="w") == [1]


def test_diff_sees_leased_jobs_and_touches_no_lease(api: Api):
    """§18.1."""
    queue = Queue(api)
    queue.put(1, 2)
    queue.claim()
    assert len(api.diff("q")["records"]) == 2
    assert queue.depth() == (1, 1, 0)


def test_counters_add_up(api: Api):
    """§18.9."""
    queue = Queue(api)
    queue.put(*range(6))
    queue.claim(4)
    queue.ack(1)
    queue.nack(2, delay_ms=60_000)
    state = queue.state()
    assert state["queue"] == {"ready": 2, "in_flight": 2, "dead_lettered": 0, "delayed": 1}
    assert state["count"] == 5


def test_a_queue_that_nobody_claimed_from_is_all_ready(api: Api):
    queue = Queue(api)
    queue.put(1, 2, 3)
    assert queue.state()["queue"] == {"ready": 3, "in_flight": 0, "dead_lettered": 0}


def test_expired_jobs_are_not_handed_out(api: Api, clock: Any):
    """§8.2, §18.3 step 1: the retention pass comes first."""
    queue = Queue(api, ttl_ms=1000)
    queue.put(1, 2)
    queue.claim(lease_ms=100)
    later(clock, 600)
    queue.put(3)
    later(clock, 401)
    assert queue.claim_seqs(5) == [3]
    assert queue.depth() == (0, 1, 0)


def test_a_deleted_topic_takes_its_jobs_along(api: Api):
    queue = Queue(api)
    queue.put(1, 2, 3)
    queue.claim(2)
    api.delete(queue.path)
    refused(api.post(f"{queue.path}/claim", {"node": "w"}), 404, "topic_not_found")
    refused(api.post(f"{queue.path}/ack", {"node": "w", "seqs": [1]}), 404, "topic_not_found")
    again = Queue(api)
    again.put(9)
    assert again.ack(1)["skipped"] == [1]
    [job] = again.claim(5)
    assert (job["data"], job["deliveries"], job["lease_id"]) == (9, 1, "lease_1")


def test_paused_queues_hand_out_nothing_and_say_so(api: Api):
    from apps.topics.queues import services

    queue = Queue(api)
    queue.put(1)
    services.pause_queue(name="q", caller="test")
    answer = queue.call("claim", node="w")
    assert (answer["claimed"], answer["paused"], answer["ready"]) == ([], True, 1)
    assert queue.state()["queue"]["paused"] is True
    services.resume_queue(name="q", caller="test")
    assert queue.claim_seqs() == [1]
    assert "paused" not in queue.state()["queue"]


def test_metrics_tell_depth_age_and_leases(api: Api, clock: Any):
    """§20, with our own series for delays, dead letters and age."""
    queue = Queue(api)
    queue.put(*range(6))
    queue.claim(4, lease_ms=5000)
    queue.nack(1, delay_ms=60_000)
    queue.extend(2, lease_ms=1000)
    later(clock, 2000)
    lines = dict(line.rsplit(" ", 1) for line in api.get("/v0/metrics").text.splitlines())
    assert lines["topics_queue_leases_in_flight"] == "2"
    figures = {"ready": 3, "in_flight": 2, "delayed": 1, "dead_lettered": 0, "oldest_age_ms": 2000}
    for name, value in figures.items():
        assert lines[f'topics_topic_queue_{name}{{topic="q"}}'] == str(value), name


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "", 400, "invalid_request"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"{", "application/json", 400, "invalid_request"),
        (b"{}", "application/json", 400, "invalid_request"),
        (b'{"node":null}', "application/json", 400, "invalid_request"),
        (b'{"node":5}', "application/json", 400, "invalid_request"),
        (b'{"node":"w","max":-1}', "application/json", 400, "invalid_request"),
        (b'{"node":"w","max":1.0}', "application/json", 400, "invalid_request"),
        (b'{"node":"w","max":4294967296}', "application/json", 400, "invalid_request"),
        (b'{"node":"w","max":null}', "application/json", 400, "invalid_request"),
        (b'{"node":"w","lease_ms":-1}', "application/json", 400, "invalid_request"),
        (
            b'{"node":"w","lease_ms":18446744073709551616}',
            "application/json",
            400,
            "invalid_request",
        ),
    ],
    ids=repr,
)
def test_malformed_claims_are_refused_before_anything_else(
    api: Api, body: bytes, content_type: str, status: int, code: str
):
    answer = api.post("/v0/topics/nothing/claim", body, content_type=content_type)
    refused(answer, status, code)


def test_what_is_no_queue_is_refused_before_the_node(api: Api):
    """§18.3: 404, 409, then 400 for the node."""
    api.write("log", 1)
    Queue(api)
    for node in ("", "ü" * 65):
        detail = refused(api.post("/v0/topics/x/claim", {"node": node}), 404, "topic_not_found")
        assert detail == {"topic": "x"}
        detail = refused(api.post("/v0/topics/log/claim", {"node": node}), 409, "not_a_queue")
        assert detail == {"topic": "log"}
        refused(api.post("/v0/topics/q/claim", {"node": node}), 400, "invalid_request")
    assert api.post("/v0/topics/q/claim", {"node": "ü" * 64}).status_code == 200


@pytest.mark.parametrize("verb", ["claim", "ack", "nack", "extend"])
def test_impossible_names_are_just_not_there(api: Api, verb: str):
    """§5."""
    body = {"node": "w", "seqs": [1], "lease_ms": 1000}
    for name in ("a%00b", "%20", "a%2Fb", "x" * 300):
        answer = api.post(f"/v0/topics/{name}/{verb}", body)
        assert answer.status_code == 404, answer.text


def test_nodes_may_hold_anything_unicode_can(api: Api):
    queue = Queue(api)
    queue.put(1)
    node = 'say "\\" \0 ü \U0001f600'
    assert queue.claim_seqs(node=node) == [1]
    assert queue.ack(1, node="say")["skipped"] == [1]
    assert queue.ack(1, node=node)["acked"] == 1


def test_claims_need_read_and_write(api: Api, transactional_db: None):
    """§3.3."""
    Queue(api, "team.q").put(1)
    keys = {name: make_key(name, name, "team.") for name in ("read", "write", "read+write")}
    make_key("admin")
    for name, status in (("read", 403), ("write", 403), ("read+write", 200)):
        answer = api.post("/v0/topics/team.q/claim", {"node": "w"}, key=keys[name])
        assert answer.status_code == status, name
    for verb in ("ack", "nack", "extend"):
        body = {"node": "w", "seqs": [1], "lease_ms": 1000}
        path = f"/v0/topics/team.q/{verb}"
        refused(api.post(path, body, key=keys["read"]), 403, "forbidden")
        assert api.post(path, body, key=keys["write"]).status_code == 200
    stranger = make_key("stranger", "read+write+delete+admin", "other.")
    refused(api.post("/v0/topics/team.q/claim", {"node": "w"}, key=stranger), 403, "forbidden")
    refused(api.post("/v0/topics/team.q/claim", {"node": "w"}), 401, "unauthorized")


# --- queues that routers feed (§16.4) --------------------------------------------------------


def feed(api: Api, **router: Any) -> None:
    answer = api.put("/v0/routers/r", {"source": "source", "dest": "q", **router})
    assert answer.status_code == 201, answer.text


def test_a_claim_gets_what_was_written_to_the_source_of_a_router(api: Api):
    queue = Queue(api)
    feed(api)
    for n in range(20):
        api.write("source", n)
        [job] = queue.claim()
        assert job["data"] == n
        assert queue.ack(job["$seq"])["acked"] == 1


def test_an_ack_makes_room_for_what_a_router_could_not_place(api: Api):
    """§16.4, backpressure: nothing is skipped."""
    queue = Queue(api, discard="reject", cap_records=2)
    feed(api)
    api.write("source", *range(7))
    done = []
    while jobs := queue.claim(9):
        assert len(jobs) <= 2
        done += [job["data"] for job in jobs]
        queue.ack(*[job["$seq"] for job in jobs])
    assert done == list(range(7))


def test_a_work_stream_is_sent_what_routers_bring(api: Api):
    Queue(api)
    feed(api)
    with Stream(api, "/v0/topics/q/work?node=w&max=9") as stream:
        stream.block()
        api.write("source", "a", "b")
        stream.expect("job", data="a")
        stream.expect("job", data="b")


def test_a_client_that_leaves_a_window_is_given_nothing(api: Api):
    queue = Queue(api, claim_jitter_ms=500)
    queue.put(1, 2)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"{queue.path}/claim",
        "raw_path": f"{queue.path}/claim".encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    answers: list[Any] = []

    async def leave() -> None:
        body = b'{"node":"gone","max":2}'
        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]

        async def receive() -> Any:
            if len(messages) == 1:
                # Not before the claim waits in the window.
                while not await asyncio.to_thread(_somebody_waits):
                    pass
            return messages.pop()

        async def send(message: Any) -> None:
            answers.append(message)

        await api.app(scope, receive, send)

    api.run(leave())
    assert answers == []
    assert [job["deliveries"] for job in queue.claim(2)] == [1, 1]


def _somebody_waits() -> bool:
    try:
        return WaitingClaim.objects.exists()
    finally:
        connection.close()
