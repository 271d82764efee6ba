"""Our own, beside topics v0: the dead letters of a queue, and their way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.access.models import AuditEntry
from tests.cast import make_key
from tests.contract.topics.conftest import refused
from tests.contract.topics.queue_client import Queue

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def bury(queue: Queue, *data: Any, **record: Any) -> None:
    """Write jobs and have them dead-lettered; the queue allows one delivery."""
    records = [{"data": one, **record} for one in data]
    assert queue.api.post(queue.path, {"records": records}).status_code == 200
    queue.nack(*queue.claim_seqs(len(data)))
    assert queue.claim() == []


def mortal(api: Api, name: str = "q", **config: Any) -> Queue:
    return Queue(api, name, **{"max_deliveries": 1, "dead_letter": "dead", **config})


def letters(queue: Queue, query: str = "") -> Any:
    answer = queue.api.get(f"{queue.path}/dead-letters{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def redrive(queue: Queue, **body: Any) -> Any:
    answer = queue.api.post(f"{queue.path}/dead-letters/redrive", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_stamps_that_somebody_else_wrote_are_read_as_far_as_they_make_sense(api: Api):
    queue = mortal(api)
    bury(queue, 1)
    forged = {
        "$dead_letter_from": "q",
        "$dead_letter_src_seq": "²",
        "$dead_letter_deliveries": "9" * 5000,
    }
    assert (
        api.post("/v0/topics/dead", {"records": [{"data": 2, "meta": forged}]}).status_code == 200
    )
    assert [one["src_seq"] for one in letters(queue)["dead_letters"]] == [1, None]


def test_a_dead_letter_is_shown_as_the_job_it_was(api: Api):
    queue = mortal(api)
    bury(queue, {"n": 1}, tag='t"', node="n", meta={"z": 1e3})
    page = letters(queue)
    [letter] = page.pop("dead_letters")
    ts = letter.pop("$ts")
    assert ts > 0
    assert letter == {
        "$seq": 1,
        "$node": "n",
        "$tag": 't"',
        "src_seq": 1,
        "deliveries": 1,
        "data": {"n": 1},
        "meta": {"z": 1e3},
    }
    assert set(page.pop("performance")) == {"server_total_ms"}
    assert page == {"topic": "q", "dead_letter": "dead", "next_from_seq": 1, "caught_up": True}


def test_only_the_queues_own_are_shown(api: Api):
    one, other = mortal(api, "one"), mortal(api, "one.more")
    api.write("dead", 0)
    bury(other, "b")
    bury(one, "a")
    inner = {"deep": {"$dead_letter_from": "one"}}
    api.post("/v0/topics/dead", {"records": [{"data": "trick", "meta": inner}]})
    assert [letter["data"] for letter in letters(one)["dead_letters"]] == ["a"]
    assert [letter["data"] for letter in letters(other)["dead_letters"]] == ["b"]


def test_pages_follow_each_other(api: Api):
    queue = mortal(api)
    bury(queue, *range(5))
    seen, after = [], 0
    while True:
        page = letters(queue, f"?limit=2&from_seq={after}")
        seen += [letter["data"] for letter in page["dead_letters"]]
        after = page["next_from_seq"]
        if page["caught_up"]:
            break
    assert seen == [0, 1, 2, 3, 4]


def test_a_redriven_job_is_fresh_and_without_stamps(api: Api):
    queue = mortal(api)
    bury(queue, "a", "b", tag="t", meta={"x": 1})
    answer = redrive(queue)
    del answer["performance"]
    assert answer == {
        "topic": "q",
        "dead_letter": "dead",
        "redriven": 2,
        "seqs": [3, 4],
        "skipped": [],
        "caught_up": True,
    }
    jobs = queue.claim(9)
    assert [(job["data"], job["deliveries"], job["meta"]) for job in jobs] == [
        ("a", 1, {"x": 1}),
        ("b", 1, {"x": 1}),
    ]
    assert jobs[0]["$tag"] == "t"
    assert letters(queue)["dead_letters"] == []
    assert api.get("/v0/topics/dead").json()["count"] == 0
    assert AuditEntry.objects.filter(action="queue.redrive", target="topic:q").count() == 1


def test_a_meta_of_nothing_but_stamps_goes_with_them(api: Api):
    queue = mortal(api)
    bury(queue, 1)
    redrive(queue)
    assert "meta" not in queue.claim()[0]


def test_some_may_be_chosen(api: Api):
    queue = mortal(api)
    bury(queue, *"abc")
    answer = redrive(queue, seqs=[2, 9, 2**64 - 1])
    assert (answer["redriven"], answer["skipped"]) == (1, [9, 2**64 - 1])
    assert [job["data"] for job in queue.claim(9)] == ["b"]
    assert redrive(queue, limit=1)["caught_up"] is False
    assert redrive(queue, seqs=[])["redriven"] == 0
    assert redrive(queue, limit=1)["redriven"] == 1


def test_what_does_not_fit_a_queue_that_rejects_stays(api: Api):
    queue = mortal(api, discard="reject", cap_records=3)
    bury(queue, *"abc")
    queue.put(1)
    answer = redrive(queue)
    assert (answer["redriven"], answer["caught_up"]) == (2, False)
    detail = refused(api.post(f"{queue.path}/dead-letters/redrive"), 422, "topic_full")
    assert detail["cap_records"] == 3
    assert [letter["data"] for letter in letters(queue)["dead_letters"]] == ["c"]


def test_leases_on_a_dead_letter_queue_go_with_the_jobs(api: Api):
    dead = Queue(api, "dead")
    queue = mortal(api)
    bury(queue, "a", "b")
    dead.claim(2, node="surgeon")
    redrive(queue, seqs=[1])
    assert dead.depth() == (0, 1, 0)
    assert dead.ack(1, 2, node="surgeon")["acked"] == 2


def test_waiting_workers_are_woken(api: Api):
    from tests.contract.topics.sse import Stream

    queue = mortal(api)
    bury(queue, 1)
    with Stream(api, f"{queue.path}/work?node=w") as stream:
        stream.block()
        redrive(queue)
        stream.expect("job", data=1)


def test_a_queue_that_names_no_topic_for_them_says_so(api: Api):
    queue = Queue(api)
    for answer in (
        api.get(f"{queue.path}/dead-letters"),
        api.post(f"{queue.path}/dead-letters/redrive"),
    ):
        assert refused(answer, 409, "no_dead_letters") == {"topic": "q"}


def test_before_the_first_dead_letter_there_are_none(api: Api):
    queue = mortal(api)
    assert letters(queue)["dead_letters"] == []
    assert redrive(queue)["redriven"] == 0


@pytest.mark.parametrize(
    ("name", "status", "code"), [("x", 404, "topic_not_found"), ("log", 409, "not_a_queue")]
)
def test_what_is_no_queue_has_none(api: Api, name: str, status: int, code: str):
    api.write("log", 1)
    refused(api.get(f"/v0/topics/{name}/dead-letters"), status, code)
    refused(api.post(f"/v0/topics/{name}/dead-letters/redrive"), status, code)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"seqs":5}', b'{"seqs":[-1]}', b'{"seqs":["1"]}', b'{"limit":-1}']
)
def test_malformed_redrives_are_refused(api: Api, body: bytes):
    mortal(api)
    answer = api.post("/v0/topics/q/dead-letters/redrive", body)
    refused(answer, 400, "invalid_request")


def test_too_many_are_refused(api: Api):
    mortal(api)
    answer = api.post("/v0/topics/q/dead-letters/redrive", {"seqs": [1] * 1001})
    assert refused(answer, 400, "batch_too_large") == {"max": 1000}


def test_readers_look_and_writers_redrive(api: Api):
    mortal(api, "team.q")
    reader, writer = make_key("r", "read", "team."), make_key("w", "write", "team.")
    stranger = make_key("s", "read+write+delete+admin", "other.")
    path = "/v0/topics/team.q/dead-letters"
    assert api.get(path, key=reader).status_code == 200
    refused(api.get(path, key=writer), 403, "forbidden")
    refused(api.post(f"{path}/redrive", key=reader), 403, "forbidden")
    assert api.post(f"{path}/redrive", key=writer).status_code == 200
    refused(api.get(path, key=stranger), 403, "forbidden")
    refused(api.post(f"{path}/redrive", key=stranger), 403, "forbidden")
