"""topics v0 §8: retention, full topics and tombstones."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

import pytest
import time_machine
from django.db import transaction

from apps.topics import queries
from apps.topics.keeping import eviction
from apps.topics.models import Event, Topic
from tests.contract.topics.conftest import refused, seqs
from tests.sessions import wait_for_a_blocked_session

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
    api.post("/v0/topics/t/delete", {"before_seq": 2})
    page = api.diff("t")
    assert (page["tombstone"], seqs(page)) == (None, [2, 3])


def test_a_cursor_beyond_the_head_starts_over(api: Api):
    """§8.6."""
    api.write("t", *range(5))
    api.delete("/v0/topics/t")
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


def test_a_record_expires_when_it_is_older_than_its_time(api: Api):
    """§6: strictly greater."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, config={"ttl_ms": 1000})
        clock.shift(1)
        assert seqs(api.diff("t")) == [1]
        clock.shift(0.001)
        assert seqs(api.diff("t")) == []


def test_what_is_lost_stays_lost(api: Api):
    """§8.1: whatever becomes of clock and config."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2, config={"ttl_ms": 1000})
        clock.shift(2)
        assert api.state("t")["count"] == 0
        clock.shift(-2)
        api.put("/v0/topics/t", {})
        api.write("t", 3)
        page = api.diff("t")
        assert (seqs(page), page["tombstone"]["gap_to"]) == ([3], 2)


def test_time_never_goes_back_within_a_topic(api: Api):
    """§7.5: `$ts` does not fall with seq."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1)
        clock.shift(-60)
        api.write("t", 2)
        times = [record["$ts"] for record in api.diff("t")["records"]]
        assert times[0] == times[1]


def test_a_cap_counts_live_records(api: Api):
    """★17: with `old` the newest live ones stay, and C rises only when a live one goes."""
    api.put("/v0/topics/t", {"cap_records": 3})
    for tag in "aabc":
        api.post("/v0/topics/t", {"records": [{"data": 1, "tag": tag}]})
    assert api.state("t")["earliest_seq"] == 2
    api.post("/v0/topics/t/delete", {"match": "b"})
    api.write("t", 5)
    page = api.diff("t", from_seq=1)
    assert (seqs(page), page["tombstone"]) == ([2, 4, 5], None)
    api.write("t", 6)
    page = api.diff("t", from_seq=1)
    assert (seqs(page), page["tombstone"]["gap_to"]) == ([4, 5, 6], 2)


def test_a_topic_that_rejects_never_drops_what_nobody_has_read(api: Api):
    """★17: deletions out of order make room; nothing is evicted for it."""
    api.put("/v0/topics/t", {"cap_records": 3, "discard": "reject"})
    for tag in "abc":
        api.post("/v0/topics/t", {"records": [{"data": 1, "tag": tag}]})
    for tag in "bc":
        api.post("/v0/topics/t/delete", {"match": tag})
    api.write("t", 1, 2)
    page = api.diff("t")
    assert (seqs(page), page["tombstone"]) == ([1, 4, 5], None)
    refused(api.write("t", 1), 422, "topic_full")
    api.put("/v0/topics/t", {"cap_records": 1, "discard": "reject"})
    assert api.state("t")["count"] == 3


def test_a_byte_cap_takes_no_more_than_it_must(api: Api):
    """⚑18: also beside a record cap; a record larger than the cap is accepted, and gone."""
    api.put("/v0/topics/t", {"cap_records": 4, "cap_bytes": 10})
    api.write("t", 11, 22, 33, 44, 55)
    assert seqs(api.diff("t")) == [2, 3, 4, 5]
    api.write("t", 66, 77)
    assert seqs(api.diff("t")) == [4, 5, 6, 7]
    answer = api.write("t", "x" * 20)
    assert answer.json()["seqs"] == [8]
    state = api.state("t")
    assert (state["count"], state["bytes"], state["earliest_seq"]) == (0, 0, 9)
    assert api.diff("t", from_seq=7)["tombstone"]["gap_to"] == 8


@pytest.mark.parametrize(("after", "reason"), [(0, "mixed"), (1, "mixed"), (2, "cap"), (3, "cap")])
def test_a_reason_is_what_reaches_into_the_gap(api: Api, after: int, reason: str):
    """§8.4: here age took 1 and 2, a cap 3 and 4."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2, config={"ttl_ms": 1000})
        clock.shift(1)
        api.write("t", 3, 4, 5)
        clock.shift(1)
        assert api.state("t")["earliest_seq"] == 3
        api.put("/v0/topics/t", {"cap_records": 1})
        tombstone = api.diff("t", from_seq=after)["tombstone"]
        assert (tombstone["gap_from"], tombstone["gap_to"]) == (after + 1, 4)
        assert tombstone["reason"] == reason


def test_a_gap_ends_at_the_floor_whatever_was_deleted_behind_it(api: Api):
    """⚑19."""
    api.write("t", *range(6), config={"cap_records": 4})
    api.post("/v0/topics/t/delete", {"before_seq": 5})
    page = api.diff("t")
    tombstone = page["tombstone"]
    assert (tombstone["gap_to"], tombstone["earliest_seq"]) == (2, 3)
    assert (page["earliest_seq"], seqs(page)) == (5, [5, 6])


def test_an_empty_topic_that_was_made_anew_says_so(api: Api):
    """§8.4: `recreated` on a topic without records."""
    api.put("/v0/topics/t", {})
    page = api.diff("t", from_seq=9)
    tombstone = page["tombstone"]
    assert (tombstone["gap_from"], tombstone["gap_to"], tombstone["missed_estimate"]) == (1, 0, 1)
    assert (page["next_from_seq"], page["caught_up"]) == (0, True)


def test_a_clock_that_steps_back_while_age_is_judged_hides_nothing(api: Api):
    """§1: nobody's cursor moves past records that were neither delivered nor announced as lost."""
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2, config={"ttl_ms": 1000})
        clock.shift(2)
        with transaction.atomic():
            Topic.objects.select_for_update().get(name="t")
            reading = api.begin("POST", "/v0/topics/t/diff", {})
            wait_for_a_blocked_session()
            clock.shift(-2)
        page = reading.result(60).json()
        assert (seqs(page), page["next_from_seq"]) == ([1, 2], 2)


def test_a_feed_is_not_led_past_records_either(api: Api):
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1, 2, config={"ttl_ms": 1000})
        clock.shift(2)
        with transaction.atomic():
            Topic.objects.select_for_update().get(name="t")
            reading = api.start(queries.read_after_async("t", 0, 10))
            wait_for_a_blocked_session()
            clock.shift(-2)
        page = reading.result(60)
        assert ([record.seq for record in page.records], page.next_after) == ([1, 2], 2)


def test_a_topic_that_expires_record_by_record_is_read_all_the_same(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    """However many more have expired by the time that the first have been taken away."""
    ticks = count(1_000_000_000_000)
    monkeypatch.setattr(eviction, "now_ms", lambda: next(ticks))
    api.put("/v0/topics/t", {"ttl_ms": 60})
    for number in range(100):
        api.write("t", number)
    assert seqs(api.diff("t"))[-1] == 100
    assert api.run(queries.read_after_async("t", 0, 100)).records[-1].seq == 100
    page = queries.read_after("t", 0, 100)
    assert page is not None
    assert page.records[-1].seq == 100
