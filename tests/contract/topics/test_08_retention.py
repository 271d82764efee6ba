"""topics v0 §8: retention, full topics and tombstones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import time_machine

from apps.topics.models import Event, Topic
from tests.contract.topics.conftest import refused, seqs

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_a_full_topic_that_rejects_says_how_full_it_is(api: Api):
    api.write("t", 1, 2, config={"cap_records": 3, "discard": "reject"})
    detail = refused(api.write("t", 3, 4), 422, "topic_full")
    assert detail == {
        "topic": "t",
        "cap_records": 3,
        "cap_bytes": 0,
        "head_seq": 2,
        "earliest_seq": 1,
    }
    assert api.write("t", 3).status_code == 200
    refused(api.write("t", 1, 2, 3, 4), 400, "record_too_large")  # could never fit
    assert Event.objects.count() == 3


def test_bytes_fill_a_topic_too(api: Api):
    api.write("t", "12345678", config={"cap_bytes": 20, "discard": "reject"})
    assert api.write("t", "12345678").status_code == 200
    refused(api.write("t", 1), 422, "topic_full")
    refused(api.write("t", "x" * 19), 400, "record_too_large")


def test_a_full_topic_that_discards_keeps_the_newest(api: Api):
    api.write("t", 1, 2, 3, 4, 5, config={"cap_records": 2})
    page = api.diff("t")
    assert [record["$seq"] for record in page["records"]] == [4, 5]
    assert page["earliest_seq"] == 4
    api.write("t", 6)
    assert [record["$seq"] for record in api.diff("t", from_seq=4)["records"]] == [5, 6]


def test_room_is_shared_out_in_order_of_arrival(api: Api):
    """Writes that go into one transaction are judged one after the other."""
    api.write("t", 0, config={"cap_records": 6, "discard": "reject"})
    answers = [api.begin("POST", "/v0/topics/t", {"records": [{"data": n}]}) for n in range(20)]
    statuses = [answer.result(60).status_code for answer in answers]
    assert statuses.count(200) == 5
    assert statuses.count(422) == 15


def test_a_refused_write_creates_no_topic(api: Api):
    """★22."""
    config = {"cap_bytes": 2, "discard": "reject"}
    refused(api.write("t", "xxxx", config=config), 400, "record_too_large")
    assert not Topic.objects.exists()
    assert api.write("t", 1, create=True).status_code == 201


def test_what_a_cap_took_is_announced_once(api: Api):
    api.write("t", *range(10), config={"cap_records": 4})
    page = api.diff("t", from_seq=2, limit=1)
    assert page["tombstone"] == {
        "gap_from": 3,
        "gap_to": 6,
        "reason": "cap",
        "missed_estimate": 4,
        "earliest_seq": 7,
        "head_seq": 10,
    }
    assert (seqs(page), page["earliest_seq"]) == ([7], 7)
    assert api.diff("t", from_seq=7)["tombstone"] is None
    assert api.diff("t", from_seq=6)["tombstone"] is None


def test_what_age_took_is_announced(api: Api):
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2, config={"ttl_ms": 1000})
        clock.shift(1.001)
        page = api.diff("t")
        assert (seqs(page), page["earliest_seq"], page["caught_up"]) == ([], 3, True)
        assert page["tombstone"]["reason"] == "ttl"
        assert page["next_from_seq"] == 2


def test_deletions_are_silent(api: Api):
    """§8.5."""
    api.write("t", 1, 2, 3)
    Event.objects.filter(seq=1).delete()
    Topic.objects.update(earliest=2, count=2, bytes=2)
    page = api.diff("t")
    assert (page["tombstone"], seqs(page)) == (None, [2, 3])


def test_a_cursor_beyond_the_head_starts_over(api: Api):
    """§8.6."""
    api.write("t", *range(5))
    Topic.objects.all().delete()
    api.write("t", 1, 2)
    page = api.diff("t", from_seq=5)
    assert page["tombstone"] == {
        "gap_from": 1,
        "gap_to": 2,
        "reason": "recreated",
        "missed_estimate": 2,
        "earliest_seq": 1,
        "head_seq": 2,
    }
    assert (seqs(page), page["next_from_seq"]) == ([1, 2], 2)
    assert api.diff("t", from_seq=2**64 - 1)["tombstone"]["reason"] == "recreated"
