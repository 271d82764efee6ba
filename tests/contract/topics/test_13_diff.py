"""topics v0 §13: diff, the read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.topics import queries
from apps.topics.models import Topic
from tests.contract.topics.conftest import refused, seqs, waits_on

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_it_answers_as_the_example(api: Api):
    for number in range(6):
        node = "depot-9" if number == 4 else "depot-7"
        record = {"data": {"n": number}, "tag": "parcel/PX-31", "meta": {"scanner": 4}}
        api.post("/v0/topics/parcels:north", {"node": node, "records": [record]})
    page = api.diff("parcels:north", from_seq=3, limit=2, node=["depot-9"], include_tags=True)
    [first, second] = page.pop("records")
    assert list(first) == ["$seq", "$ts", "$node", "$tag", "data", "meta"]
    assert (first["$seq"], second["$seq"]) == (4, 6)
    performance = page.pop("performance")
    assert set(performance) == {"server_total_ms", "records_scanned"}
    assert performance["records_scanned"] == 3
    assert page == {
        "topic": "parcels:north",
        "next_from_seq": 6,
        "head_seq": 6,
        "earliest_seq": 1,
        "caught_up": True,
        "tombstone": None,
        "lag": 0,
    }


def test_an_empty_body_reads_from_the_start_without_a_content_type(api: Api):
    """§2.2."""
    api.write("t", 1, 2)
    answer = api.post("/v0/topics/t/diff")
    assert (answer.status_code, seqs(answer.json())) == (200, [1, 2])


@pytest.mark.parametrize(
    "body",
    [
        {"from_seq": -1},
        {"from_seq": 2**64},
        {"from_seq": None},
        {"from_seq": "1"},
        {"limit": 1.0},
        {"limit": -1},
        {"limit": 2**32},
        {"wait_ms": "1"},
        {"node": 5},
        {"node": [5]},
        {"include_tags": 1},
        {"include_meta": None},
        {"max_batch_bytes": -5},
        b"[",
        b"[]",
        b'{"from_seq":5.0}',
        b'{"from_seq":1e3}',
    ],
    ids=str,
)
def test_a_malformed_body_is_refused(api: Api, body: Any):
    api.write("t", 1)
    refused(api.post("/v0/topics/t/diff", body), 400, "invalid_request")


def test_the_content_type_is_judged_when_there_is_a_body(api: Api):
    answer = api.post("/v0/topics/t/diff", b"{", content_type="text/plain")
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("name", ["absent", "a b", "%00", "-"])
def test_it_never_creates_a_topic(api: Api, name: str):
    refused(api.post(f"/v0/topics/{name}/diff", {}), 404, "topic_not_found")
    refused(api.post(f"/v0/topics/{name}/diff", {"wait_ms": 5}), 404, "topic_not_found")
    assert not Topic.objects.exists()


def test_limits_are_clamped(api: Api):
    api.write("t", *range(1100))
    assert len(api.diff("t")["records"]) == 256
    assert len(api.diff("t", limit=0)["records"]) == 256
    assert len(api.diff("t", limit=2**32 - 1)["records"]) == 1000
    page = api.diff("t", from_seq=1000, limit=100)
    assert (page["next_from_seq"], page["caught_up"], page["lag"]) == (1100, True, 0)
    page = api.diff("t", limit=100)
    assert (page["next_from_seq"], page["caught_up"], page["lag"]) == (100, False, 1000)


def test_a_byte_budget_ends_a_page_before_what_does_not_fit(api: Api):
    """⚑23; at least one record always."""
    api.write("t", *["x" * 8] * 5)
    page = api.diff("t", max_batch_bytes=25)
    assert (seqs(page), page["next_from_seq"], page["caught_up"]) == ([1, 2], 2, False)
    assert seqs(api.diff("t", max_batch_bytes=1)) == [1]
    assert len(seqs(api.diff("t", max_batch_bytes=2**64 - 1))) == 5
    api.write("big", *["x" * 600_000] * 3)
    assert seqs(api.diff("big")) == [1]
    assert seqs(api.diff("big", max_batch_bytes=8 << 20)) == [1, 2, 3]


def test_meta_and_tags_are_given_as_asked(api: Api):
    api.post("/v0/topics/t", {"records": [{"data": 1, "tag": "", "meta": 0}]})
    assert set(api.diff("t")["records"][0]) == {"$seq", "$ts", "data", "meta"}
    page = api.diff("t", include_tags=True, include_meta=False)
    assert page["records"][0]["$tag"] == ""
    assert set(page["records"][0]) == {"$seq", "$ts", "$tag", "data"}


# --- long poll -----------------------------------------------------------------------------------


def test_a_long_poll_is_woken_by_an_append(api: Api, redis: object):
    api.write("t", 1)
    waiting = api.begin("POST", "/v0/topics/t/diff", {"from_seq": 1, "wait_ms": 30_000})
    waits_on(api, "t")
    assert not waiting.done()
    api.write("t", 2)
    assert seqs(waiting.result(60).json()) == [2]


def test_a_long_poll_that_wakes_to_nothing_for_it_returns_empty(api: Api, redis: object):
    api.write("t", 1)
    body = {"from_seq": 1, "wait_ms": 30_000, "node": "me"}
    waiting = api.begin("POST", "/v0/topics/t/diff", body)
    waits_on(api, "t")
    api.post("/v0/topics/t", {"node": "me", "records": [{"data": 1}]})
    page = waiting.result(60).json()
    assert (seqs(page), page["next_from_seq"], page["caught_up"]) == ([], 2, True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"from_seq": 0}, [2, 3]), ({"from_seq": 9}, [2, 3]), ({"from_seq": 2}, [3])],
)
def test_what_there_is_to_tell_is_told_at_once(api: Api, body: Any, expected: list[int]):
    api.write("t", 1, 2, 3, config={"cap_records": 2})
    assert seqs(api.diff("t", wait_ms=30_000, **body)) == expected


def test_a_timeout_returns_the_empty_page(api: Api, redis: object):
    api.write("t", 1)
    page = api.diff("t", from_seq=1, wait_ms=1)
    assert (seqs(page), page["caught_up"]) == ([], True)


def test_an_append_between_the_read_and_the_wait_is_not_missed(
    api: Api, redis: object, monkeypatch: pytest.MonkeyPatch
):
    """★45: registered before the first read."""
    api.write("t", 1)
    original = queries.read_records
    reads = 0

    async def read_then_append(topic: str, **options: Any) -> Any:
        nonlocal reads
        page = await original(topic, **options)
        reads += 1
        if reads == 1:
            await api._client.post("/v0/topics/t", json={"records": [{"data": 2}]})
        return page

    monkeypatch.setattr(queries, "read_records", read_then_append)
    page = api.diff("t", from_seq=1, wait_ms=30_000)
    assert seqs(page) == [2]
