"""topics v0 §18.7: jobs that were delivered too often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.topics.models import Topic
from tests.contract.topics.queue_client import Queue

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def deliver(queue: Queue, times: int, most: int = 1) -> None:
    """Have the first jobs delivered so often, and given back."""
    for _ in range(times):
        queue.nack(*queue.claim_seqs(most))


def letters(api: Api, topic: str = "dead") -> list[Any]:
    records: list[Any] = api.diff(topic, include_tags=True)["records"]
    return records


def test_an_exhausted_job_moves_with_a_stamp(api: Api):
    queue = Queue(api, "work", max_deliveries=2, dead_letter="dead")
    record = {"data": {"z": 1.0, "a": 2}, "tag": "t", "node": "n", "meta": {"z": 1e3, "a": 1}}
    api.post(queue.path, {"records": [record]})
    deliver(queue, 2)
    answer = queue.call("claim", node="w")
    assert (answer["claimed"], answer["ready"]) == ([], 0)
    [letter] = letters(api)
    assert (letter["$seq"], letter["data"]) == (1, record["data"])
    assert (letter["$tag"], letter["$node"]) == ("t", "n")
    assert letter["meta"] == {
        "z": 1e3,
        "a": 1,
        "$dead_letter_from": "work",
        "$dead_letter_deliveries": "2",
        "$dead_letter_src_seq": "1",
    }
    assert queue.depth() == (0, 0, 1)
    state = queue.state()
    assert (state["count"], state["bytes"], state["earliest_seq"]) == (0, 0, 2)


@pytest.mark.parametrize("meta", ["text", [1], 5, None])
def test_a_meta_that_is_no_object_is_replaced(api: Api, meta: Any):
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    api.post(queue.path, {"records": [{"data": 1, "meta": meta}]})
    deliver(queue, 1)
    queue.claim()
    [letter] = letters(api)
    assert set(letter["meta"]) == {
        "$dead_letter_from",
        "$dead_letter_deliveries",
        "$dead_letter_src_seq",
    }


def test_the_stamp_is_the_setting_at_the_time(api: Api):
    """⚑39."""
    queue = Queue(api, max_deliveries=5, dead_letter="dead")
    queue.put(1)
    deliver(queue, 3)
    Queue(api, max_deliveries=2, dead_letter="dead")
    queue.claim()
    assert letters(api)[0]["meta"]["$dead_letter_deliveries"] == "2"


def test_an_exhausted_job_stays_ready_until_a_claim_comes_across_it(api: Api):
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    queue.put(1, 2, 3, 4)
    queue.claim(2)
    queue.nack(1, 2)
    assert queue.depth() == (4, 0, 0)
    assert not Topic.objects.filter(name="dead").exists()


def test_a_claim_goes_on_past_the_exhausted(api: Api):
    queue = Queue(api, max_deliveries=2, dead_letter="dead")
    queue.put(*range(1, 7))
    deliver(queue, 1, most=4)
    queue.claim(3)
    queue.nack(1, 3)
    # Returned: 1 and 3 exhausted, 4 not; 2 is leased.
    assert queue.claim_seqs(2) == [4, 5]
    assert [letter["data"] for letter in letters(api)] == [1, 3]
    assert queue.depth() == (1, 3, 2)


def test_a_claim_that_is_served_before_leaves_them(api: Api):
    queue = Queue(api, max_deliveries=2, dead_letter="dead")
    queue.put(1, 2, 3)
    deliver(queue, 1, most=3)
    assert queue.claim_seqs(3) == [1, 2, 3]
    queue.nack(3)
    queue.ack(2)
    queue.nack(1)
    # Both are exhausted: 1 is met first, and there is nothing else.
    assert queue.claim() == []
    assert [letter["data"] for letter in letters(api)] == [1, 3]


def test_the_topic_is_created_with_default_config(api: Api):
    """⚑40."""
    queue = Queue(api, max_deliveries=1, dead_letter="dead", auto_create=False)
    queue.put(1, 2, 3)
    deliver(queue, 1, most=3)
    queue.claim(3)
    state = api.get("/v0/topics/dead").json()
    assert (state["type"], state["count"], state["config"]["durability"]) == ("log", 3, "disk")
    assert queue.depth() == (0, 0, 3)


def test_a_full_topic_that_rejects_leaves_the_job_in_the_queue(api: Api):
    """★40."""
    api.put("/v0/topics/dead", {"cap_records": 1, "discard": "reject"})
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    queue.put(1, 2, 3)
    deliver(queue, 1, most=2)
    assert queue.claim_seqs(3) == [3]
    assert queue.depth() == (1, 1, 1)
    assert queue.state()["count"] == 2
    api.post("/v0/topics/dead/delete", {"before_seq": 99})
    assert queue.claim_seqs(3) == []
    assert queue.depth() == (0, 1, 2)
    assert [letter["data"] for letter in letters(api)] == [2]


def test_no_room_for_another_topic_leaves_the_job_in_the_queue(api: Api, settings: Any):
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    queue.put(1)
    deliver(queue, 1)
    settings.GYOZA_MAX_TOPICS = 1
    answer = queue.call("claim", node="w")
    assert (answer["claimed"], answer["ready"]) == ([], 1)
    settings.GYOZA_MAX_TOPICS = 0
    assert queue.claim() == []
    assert queue.depth() == (0, 0, 1)


@pytest.mark.parametrize("config", [{"max_deliveries": 1}, {"dead_letter": "dead"}])
def test_without_a_limit_or_a_topic_a_job_is_redelivered_for_ever(api: Api, config: Any):
    queue = Queue(api, **config)
    queue.put(1)
    deliver(queue, 10)
    assert queue.claim()[0]["deliveries"] == 11
    assert not Topic.objects.filter(name="dead").exists()


def test_a_dead_letter_topic_may_be_a_queue(api: Api):
    dead = Queue(api, "dead")
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    queue.put(7)
    deliver(queue, 1)
    queue.claim()
    [job] = dead.claim(node="surgeon")
    assert (job["data"], job["deliveries"]) == (7, 1)


def test_many_exhausted_jobs_move_in_steps(api: Api):
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    for _ in range(3):
        queue.put(*range(1000))
    for _ in range(3):
        queue.claim(1000)
    for start in (1, 1001, 2001):
        queue.nack(*range(start, start + 1000))
    queue.put("last")
    assert queue.claim_seqs() == [3001]
    assert queue.depth() == (0, 1, 3000)


def test_readers_of_the_dead_letters_are_woken(api: Api):
    api.write("dead", 0)
    queue = Queue(api, max_deliveries=1, dead_letter="dead")
    queue.put(1)
    deliver(queue, 1)
    poll = api.begin("POST", "/v0/topics/dead/diff", {"from_seq": 1, "wait_ms": 30_000})
    queue.claim()
    assert [record["data"] for record in poll.result(20).json()["records"]] == [1]
