"""topics v0 §18.10: jobs that are pushed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.core import lifespan, sql
from tests.cast import make_key
from tests.contract.topics.queue_client import Queue
from tests.contract.topics.sse import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.topics.conftest import Api


def work(api: Api, name: str = "q", query: str = "node=w", **options: Any) -> Stream:
    return Stream(api, f"/v0/topics/{name}/work?{query}", **options)


def until(condition: Any) -> None:
    """Return once it is so; each look is a request, so that time passes."""
    for _ in range(2_000):
        if condition():
            return
    raise AssertionError("it did not come about")


def test_frames_are_as_the_example(api: Api):
    queue = Queue(api, "label-printing")
    api.post(queue.path, b'{"records":[{"data":{"copies":1, "b":[ ]},"tag":"t","meta":{"x":1}}]}')
    [ts] = [record["$ts"] for record in api.diff(queue.name)["records"]]
    with work(api, queue.name) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.block() == b"retry: 2000\n\n"
        block = stream.block()
        assert block is not None
        deadline = int(block.partition(b'"deadline":')[2].partition(b",")[0])
        assert block == (
            b'id: 1\nevent: job\ndata: {"topic":"label-printing","$seq":1,"lease_id":"lease_1",'
            b'"deadline":%d,"$ts":%d,"$tag":"t","deliveries":1,"data":{"copies":1, "b":[ ]},"meta":{"x":1}}\n\n'
            % (deadline, ts)
        )


def test_jobs_come_as_they_are_written(api: Api):
    queue = Queue(api)
    with work(api, query="node=w&max=10") as stream:
        assert stream.block() == b"retry: 2000\n\n"
        for n in range(5):
            queue.put(n)
            stream.expect("job", data=n, deliveries=1)
        assert queue.depth() == (0, 5, 0)


def test_it_holds_as_many_as_it_asked_for(api: Api):
    queue = Queue(api)
    queue.put(*range(5))
    with work(api, query="node=w&max=2") as stream:
        assert [stream.expect("job").id for _ in range(2)] == ["1", "2"]
        assert queue.depth() == (3, 2, 0)
        queue.ack(2)
        stream.expect("job", **{"$seq": 3})
        queue.nack(1, delay_ms=60_000)
        stream.expect("job", **{"$seq": 4})
        assert queue.depth() == (1, 2, 0)


def test_an_extension_keeps_the_place_taken(api: Api):
    # However slow this machine is, the lease is over when the test says so.
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        queue = Queue(api)
        queue.put(1, 2)
        with work(api, query="node=w&lease_ms=100") as stream:
            stream.expect("job", **{"$seq": 1})
            queue.extend(1, lease_ms=60_000)
            clock.shift(timedelta(milliseconds=101))
            queue.put(3)
            assert queue.depth() == (2, 1, 0)
            queue.ack(1)
            stream.expect("job", **{"$seq": 2})


def test_what_expires_is_pushed_again_under_another_lease(api: Api):
    queue = Queue(api)
    queue.put(1)
    with work(api, query="node=w&lease_ms=100") as stream:
        first = stream.expect("job", deliveries=1)
        again = stream.expect("job", deliveries=2)
        assert first.data["$seq"] == again.data["$seq"] == 1
        assert first.data["lease_id"] != again.data["lease_id"]


def test_ending_the_stream_gives_back_what_was_delivered_on_it(api: Api):
    queue = Queue(api)
    queue.put(1, 2, 3, 4)
    queue.claim()
    with work(api, query="node=w&max=2") as stream:
        stream.expect("job", **{"$seq": 2})
        stream.expect("job", **{"$seq": 3})
    until(lambda: queue.depth() == (3, 1, 0))
    assert [(job["$seq"], job["deliveries"]) for job in queue.claim(9)] == [(2, 2), (3, 2), (4, 1)]
    assert queue.ack(1)["acked"] == 1


def test_returned_jobs_are_pushed_first(api: Api):
    queue = Queue(api)
    queue.put(1, 2, 3)
    queue.claim(2)
    with work(api, query="node=x&max=2") as stream:
        stream.expect("job", **{"$seq": 3})
        queue.nack(2)
        stream.expect("job", **{"$seq": 2})


def test_streams_share_what_there_is(api: Api):
    queue = Queue(api)
    with work(api, query="node=a") as one, work(api, query="node=b") as other:
        one.block()
        other.block()
        queue.put(1, 2)
        seqs = {one.expect("job").data["$seq"], other.expect("job").data["$seq"]}
        assert seqs == {1, 2}


def test_a_paused_queue_pushes_nothing_until_it_is_resumed(api: Api):
    from apps.topics.queues import services

    queue = Queue(api)
    services.pause_queue(name="q", caller="test")
    with work(api) as stream:
        stream.block()
        queue.put(1)
        assert queue.depth() == (1, 0, 0)
        services.resume_queue(name="q", caller="test")
        stream.expect("job", data=1)


def test_exhausted_jobs_are_buried_and_not_pushed(api: Api):
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    queue.put(1, 2)
    queue.nack(*queue.claim_seqs())
    with work(api) as stream:
        stream.expect("job", data=2)
    assert queue.state()["queue"]["dead_lettered"] == 1


# --- the end ---------------------------------------------------------------------------------


def test_a_deleted_queue_ends_the_stream(api: Api):
    queue = Queue(api)
    queue.put(1)
    with work(api) as stream:
        stream.expect("job")
        api.delete(queue.path)
        event = stream.expect("error", code=409, topic="q")
        assert event.id == ""
        assert set(event.data) == {"code", "error", "topic"}
        assert stream.is_over()


@pytest.mark.parametrize("kind", ["log", "queue"])
def test_another_topic_of_the_name_ends_the_stream(api: Api, kind: Any):
    queue = Queue(api)
    with work(api) as stream:
        stream.block()
        # In one step for whoever looks: the old one is never seen to be gone.
        from django.db import transaction

        from apps.topics import services
        from apps.topics.config import TopicConfig

        with transaction.atomic():
            services.delete_topic(topic="q", caller="test")
            wanted = TopicConfig(kind=kind)
            services.configure_topic(topic="q", wanted=wanted, caller="test")
        stream.expect("error", code=409)
        assert stream.is_over()
    del queue


@pytest.fixture
def drained(api: Api) -> Iterator[Any]:
    async def drain() -> None:
        lifespan.drain()

    async def reopen() -> None:
        lifespan.reopen()

    yield lambda: api.run(drain())
    api.run(reopen())


def test_shutdown_is_told_and_gives_leases_back(api: Api, drained: Any):
    """§21."""
    queue = Queue(api)
    queue.put(1)
    with work(api) as stream:
        stream.expect("job")
        drained()
        event = stream.expect("error", code="server_shutting_down", topic="q")
        assert (event.id, set(event.data)) == ("", {"code", "error", "topic"})
        assert stream.is_over()
        until(lambda: queue.depth() == (1, 0, 0))


# --- many ------------------------------------------------------------------------------------


def test_idle_streams_share_one_look(api: Api, monkeypatch: pytest.MonkeyPatch):
    Queue(api)
    run, looks, twice = sql.run_async, [], threading.Event()

    async def counted(name: str, /, **params: Any) -> Any:
        looks.append(name)
        if looks[-2:] == ["topics/queues/look_at_queue"] * 2:
            twice.set()
        return await run(name, **params)

    monkeypatch.setattr(sql, "run_async", counted)
    streams = [work(api, query=f"node=w{n}") for n in range(20)]
    for stream in streams:
        stream.__enter__()
        stream.block()
    looks.clear()
    twice.clear()
    assert twice.wait(20)
    seen = list(looks)
    for stream in streams:
        stream.close()
    assert set(seen) == {"topics/queues/look_at_queue"}
    assert len(seen) <= 3


# --- refusals --------------------------------------------------------------------------------


def refused(api: Api, name: str, query: str, status: int, code: str, **headers: str) -> Any:
    with work(api, name, query, **headers) as stream:
        body = stream.body()
        assert (stream.status, body["error"]["code"]) == (status, code)
        return body["error"].get("detail")


def test_refusals_come_in_order(api: Api, settings: Any):
    """406; 400 node; 404; 409; 429."""
    api.write("log", 1)
    Queue(api)
    settings.GYOZA_MAX_STREAMS = 1
    with work(api):
        refused(api, "none", "", 406, "not_acceptable", accept="application/json")
        for query in ("", "node=", f"node={'x' * 129}"):
            refused(api, "none", query, 400, "invalid_request")
        assert refused(api, "none", "node=w", 404, "topic_not_found") == {"topic": "none"}
        assert refused(api, "log", "node=w", 409, "not_a_queue") == {"topic": "log"}
        detail = refused(api, "q", "node=w", 429, "throttled")
        assert detail == {"limit": "max_sse_connections", "max": 1}


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/html, */*;q=0.1"])
def test_whoever_takes_a_stream_gets_one(api: Api, accept: str):
    Queue(api)
    with work(api, accept=accept) as stream:
        assert stream.status == 200


@pytest.mark.parametrize(
    ("query", "held"),
    [("", 1), ("&max=nonsense", 1), ("&max=0", 1), ("&max=-3", 1), ("&max=3", 3), ("&max=1e1", 1)],
)
def test_a_bad_max_falls_back(api: Api, query: str, held: int):
    """⚑41."""
    queue = Queue(api)
    queue.put(*range(5))
    with work(api, query="node=w" + query) as stream:
        for _ in range(held):
            stream.expect("job")
        assert queue.depth() == (5 - held, held, 0)


def test_a_bad_lease_falls_back(api: Api):
    queue = Queue(api, lease_ms=5000)
    queue.put(1)
    with work(api, query="node=w&lease_ms=soon") as stream:
        job = stream.expect("job").data
    assert job["deadline"] - job["$ts"] >= 5000


def test_it_needs_read_and_write_by_header_or_token(api: Api):
    Queue(api, "team.q").put(1)
    key = make_key("worker", "read+write", "team.")
    reader = make_key("reader", "read", "team.")
    refused(api, "team.q", "node=w", 401, "unauthorized")
    refused(api, "team.q", f"node=w&token={reader}", 403, "forbidden")
    with work(api, "team.q", f"node=w&token={key}&token=wrong") as stream:
        stream.expect("job")
    with work(api, "team.q", "node=w", authorization=f"Bearer {key}") as stream:
        stream.expect("job")
