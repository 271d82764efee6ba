"""topics v0 §18.2, §18.4–18.6 and §18.8: what holders of leases may decide, and what others may not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from apps.topics.models import Job, Topic
from tests.contract.topics.conftest import refused
from tests.contract.topics.queue_client import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.topics.conftest import Api

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = int(START.timestamp() * 1000)
VERBS = ["ack", "nack", "extend"]
DONE = {"ack": "acked", "nack": "nacked", "extend": "extended"}


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(START, tick=False) as moved:
        yield moved


def later(clock: Any, ms: int) -> None:
    clock.shift(ms / 1000)


def decide(
    queue: Queue, verb: str, *seqs: int, node: str = "w", **body: Any
) -> tuple[int, list[int]]:
    answer = queue.call(verb, node=node, seqs=list(seqs), lease_ms=5000, **body)
    return answer[DONE[verb]], answer["skipped"]


# --- ack -------------------------------------------------------------------------------------


def test_an_ack_answers_as_the_example(api: Api):
    queue = Queue(api)
    queue.put(*range(5))
    queue.claim(3)
    answer = queue.ack(1, 3, lease_ids=["lease_1", "lease_1ff"])
    assert set(answer.pop("performance")) == {"server_total_ms"}
    assert answer == {"topic": "q", "acked": 1, "skipped": [3], "ready": 2, "in_flight": 2}


def test_an_acked_job_is_deleted_silently(api: Api):
    """§8.5, §18.4."""
    queue = Queue(api)
    queue.put("a", "bb", "ccc")
    queue.claim(3)
    queue.ack(2)
    state = queue.state()
    assert (state["count"], state["bytes"], state["earliest_seq"]) == (2, 3 + 5, 1)
    queue.ack(1)
    state = queue.state()
    assert (state["count"], state["earliest_seq"], state["head_seq"]) == (1, 3, 3)
    page = api.diff("q")
    assert ([r["$seq"] for r in page["records"]], page["tombstone"]) == ([3], None)
    queue.ack(3)
    topic = Topic.objects.get()
    assert (topic.count, topic.bytes, topic.earliest, topic.earliest_ts) == (0, 0, 4, None)
    assert not Job.objects.exists()


def test_acks_on_a_flushed_queue_tell_how_long_the_flush_took(api: Api):
    queue = Queue(api, durability="fsync")
    queue.put(1)
    queue.claim()
    assert set(queue.ack(1)["performance"]) == {"server_total_ms", "fsync_ms"}
    assert set(queue.ack(1)["performance"]) == {"server_total_ms"}


def test_repeating_an_ack_is_harmless(api: Api):
    queue = Queue(api)
    queue.put(1)
    queue.claim()
    assert (queue.ack(1)["acked"], queue.ack(1)["skipped"]) == (1, [1])


# --- nack ------------------------------------------------------------------------------------


def test_a_nacked_job_is_ready_at_once_and_keeps_its_count(api: Api):
    queue = Queue(api)
    queue.put(1, 2, 3)
    queue.claim(2)
    answer = queue.nack(1)
    del answer["performance"]
    assert answer == {"topic": "q", "nacked": 1, "skipped": [], "ready": 2, "in_flight": 1}
    [job] = queue.claim()
    assert (job["$seq"], job["deliveries"]) == (1, 2)


def test_a_delayed_job_is_nobodys_until_its_time(api: Api, clock: Any):
    """§18.5: counted neither as ready nor in flight."""
    queue = Queue(api)
    queue.put(1)
    queue.claim()
    answer = queue.nack(1, delay_ms=15_000)
    assert (answer["ready"], answer["in_flight"]) == (0, 0)
    later(clock, 14_999)
    assert queue.claim() == []
    assert queue.state()["queue"] == {"ready": 0, "in_flight": 0, "dead_lettered": 0, "delayed": 1}
    later(clock, 1)
    assert queue.depth() == (1, 0, 0)
    assert queue.claim()[0]["deliveries"] == 2


def test_delays_are_clamped_to_a_day(api: Api, clock: Any):
    queue = Queue(api)
    queue.put(1)
    queue.claim()
    queue.nack(1, delay_ms=2**64 - 1)
    later(clock, 86_399_999)
    assert queue.claim() == []
    later(clock, 1)
    assert queue.claim_seqs() == [1]


# --- extend ----------------------------------------------------------------------------------


def test_an_extension_moves_the_deadline_and_nothing_else(api: Api, clock: Any):
    queue = Queue(api)
    queue.put(1, 2)
    [job] = queue.claim(lease_ms=1000)
    later(clock, 900)
    answer = queue.extend(1, 2, lease_ms=60_000)
    del answer["performance"]
    assert answer == {
        "topic": "q",
        "extended": 1,
        "skipped": [2],
        "deadlines": {"1": NOW + 60_900},
    }
    later(clock, 60_000)
    assert queue.ack(1, lease_ids=[job["lease_id"]])["acked"] == 1


def test_an_extension_may_shorten(api: Api, clock: Any):
    queue = Queue(api)
    queue.put(1)
    queue.claim(lease_ms=60_000)
    assert queue.extend(1, lease_ms=0)["deadlines"] == {"1": NOW + 100}
    later(clock, 101)
    assert queue.claim()[0]["deliveries"] == 2


# --- who may act -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_only_the_holder_may_act(api: Api, verb: str):
    queue = Queue(api)
    queue.put(1)
    queue.claim(node="a")
    assert decide(queue, verb, 1, node="b") == (0, [1])
    assert decide(queue, verb, 1, node="a") == (1, [])


@pytest.mark.parametrize("verb", VERBS)
def test_only_under_the_lease_that_is_named(api: Api, verb: str):
    queue = Queue(api)
    queue.put(1, 2, 3)
    queue.claim(3)
    queue.nack(2)
    [again] = queue.claim()
    given = ["", "lease_2", "lease_3"]
    assert decide(queue, verb, 1, 2, 3, lease_ids=given) == (2, [2])
    assert decide(queue, verb, 2, lease_ids=[again["lease_id"]]) == (1, [])


@pytest.mark.parametrize("verb", VERBS)
def test_not_after_the_deadline(api: Api, clock: Any, verb: str):
    queue = Queue(api)
    queue.put(1, 2)
    queue.claim(2, lease_ms=1000)
    later(clock, 1000)
    assert decide(queue, verb, 1) == (1, [])
    later(clock, 1)
    assert decide(queue, verb, 2) == (0, [2])


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_leased_is_skipped_in_the_order_of_the_request(api: Api, verb: str):
    queue = Queue(api)
    queue.put(1, 2, 3)
    queue.claim(2)
    assert decide(queue, verb, 9, 2, 3, 0, 2, 2**64 - 1) == (1, [9, 3, 0, 2, 2**64 - 1])


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_may_be_decided_about(api: Api, verb: str):
    """⚑37."""
    queue = Queue(api)
    assert decide(queue, verb) == (0, [])
    assert decide(queue, verb, lease_ids=[]) == (0, [])


@pytest.mark.parametrize("verb", VERBS)
def test_null_tokens_count_as_not_given(api: Api, verb: str):
    queue = Queue(api)
    queue.put(1)
    queue.claim()
    assert decide(queue, verb, 1, lease_ids=None) == (1, [])


# --- refusals, in the order of §18.2 ---------------------------------------------------------

BAD = [
    ({"seqs": [1]}, "invalid_request"),
    ({"node": "w"}, "invalid_request"),
    ({"node": None, "seqs": [1]}, "invalid_request"),
    ({"node": "w", "seqs": None}, "invalid_request"),
    ({"node": "w", "seqs": [-1]}, "invalid_request"),
    ({"node": "w", "seqs": [1.0]}, "invalid_request"),
    ({"node": "w", "seqs": ["1"]}, "invalid_request"),
    ({"node": "w", "seqs": [2**64]}, "invalid_request"),
    ({"node": "w", "seqs": [1], "lease_ids": ["nonsense"]}, "invalid_request"),
    ({"node": "w", "seqs": [1], "lease_ids": ["lease_"]}, "invalid_request"),
    ({"node": "w", "seqs": [1], "lease_ids": ["lease_xyz"]}, "invalid_request"),
    ({"node": "w", "seqs": [1], "lease_ids": [" lease_1"]}, "invalid_request"),
    ({"node": "w", "seqs": [1], "lease_ids": [None]}, "invalid_request"),
    ({"node": "w", "seqs": [1], "lease_ids": ["", "lease_1"]}, "invalid_request"),
    ({"node": "", "seqs": [1]}, "invalid_request"),
    ({"node": "", "seqs": [1] * 1001}, "invalid_request"),
    ({"node": "w", "seqs": [1] * 1001}, "batch_too_large"),
    ({"node": "w", "seqs": [1] * 1001, "lease_ids": [""]}, "batch_too_large"),
    ({"node": "w", "seqs": [1] * 1001, "lease_ids": ["?"]}, "invalid_request"),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("body", "code"), BAD, ids=lambda value: str(value)[:60])
def test_malformed_requests_are_refused_before_the_topic_is_looked_at(
    api: Api, verb: str, body: dict[str, Any], code: str
):
    answer = api.post(f"/v0/topics/nothing/{verb}", {"lease_ms": 1000, **body})
    refused(answer, 400, code)


def test_too_many_seqs_are_told(api: Api):
    """§2.5."""
    answer = api.post("/v0/topics/q/ack", {"node": "w", "seqs": [1] * 1001})
    assert refused(answer, 400, "batch_too_large") == {"seqs": 1001, "max": 1000}


@pytest.mark.parametrize("verb", VERBS)
def test_bodies_are_json_and_say_so(api: Api, verb: str):
    path = f"/v0/topics/q/{verb}"
    refused(api.post(path), 415, "unsupported_media_type")
    refused(api.post(path, b"{}", content_type="text/plain"), 415, "unsupported_media_type")
    refused(api.post(path, b"", content_type="application/json"), 400, "invalid_request")


@pytest.mark.parametrize("bad", [-1, 1.5, "1", 2**64])
def test_extensions_and_delays_are_integers(api: Api, bad: Any):
    Queue(api)
    for verb, name in (("extend", "lease_ms"), ("nack", "delay_ms")):
        body = {"node": "w", "seqs": [1], name: bad}
        refused(api.post(f"/v0/topics/q/{verb}", body), 400, "invalid_request")
    refused(api.post("/v0/topics/q/extend", {"node": "w", "seqs": []}), 400, "invalid_request")


@pytest.mark.parametrize("verb", VERBS)
def test_absent_topics_and_logs_are_told_apart(api: Api, verb: str):
    api.write("log", 1)
    body = {"node": "w", "seqs": [1], "lease_ms": 1000}
    assert refused(api.post(f"/v0/topics/x/{verb}", body), 404, "topic_not_found") == {"topic": "x"}
    answer = api.post(f"/v0/topics/log/{verb}", body)
    assert refused(answer, 409, "not_a_queue") == {"topic": "log"}


# --- records that go by another way (§18.8) --------------------------------------------------


def by_range(api: Api) -> None:
    api.post("/v0/topics/q/delete", {"before_seq": 4})


def by_tag(api: Api) -> None:
    assert api.post("/v0/topics/q/delete", {"match": "x"}).json()["deleted"] == 3


@pytest.mark.parametrize("remove", [by_range, by_tag])
def test_a_deleted_job_is_no_longer_in_flight_and_its_ack_still_counts(api: Api, remove: Any):
    queue = Queue(api)
    records = [{"data": n, "tag": "x" if n < 4 else "y"} for n in range(1, 6)]
    api.post(queue.path, {"records": records})
    queue.claim(4)
    queue.nack(2, delay_ms=60_000)
    queue.nack(3)
    remove(api)
    assert queue.state()["queue"] == {"ready": 1, "in_flight": 1, "dead_lettered": 0}
    answer = queue.ack(1, 2, 3)
    assert (answer["acked"], answer["skipped"]) == (1, [2, 3])
    assert (answer["ready"], answer["in_flight"]) == (1, 1)
    assert queue.claim_seqs(9) == [5]
    assert set(Job.objects.values_list("seq", flat=True)) == {4, 5}


@pytest.mark.parametrize("verb", VERBS)
def test_the_lease_of_a_deleted_job_lingers(api: Api, clock: Any, verb: str):
    queue = Queue(api)
    queue.put(1, 2)
    queue.claim()
    by_range(api)
    assert decide(queue, verb, 1) == (1, [])
    later(clock, 30_001)
    assert queue.claim(9) == []
    assert decide(queue, verb, 1) == (0, [1])
    assert not Job.objects.exists()


def test_evicted_jobs_are_no_longer_in_flight(api: Api, clock: Any):
    queue = Queue(api, ttl_ms=1000)
    queue.put(1, 2)
    queue.claim()
    later(clock, 1001)
    assert queue.depth() == (0, 0, 0)
    assert queue.ack(1)["acked"] == 1


def test_an_ack_never_makes_a_queue_that_rejects_lose_unfinished_work(api: Api):
    """★17."""
    queue = Queue(api, cap_records=3, discard="reject")
    queue.put(1, 2, 3)
    queue.claim(3)
    for seq in (2, 3):
        queue.ack(seq)
        queue.put(seq)
    refused(api.write("q", 6), 422, "topic_full")
    queue.nack(1)
    assert queue.claim_seqs(9) == [1, 4, 5]
