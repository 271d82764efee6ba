"""Reads: one snapshot of marks and records, budgets, filters, retention, long polls."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.db import connection

from apps.core import sql
from apps.core.sse import wakeups
from apps.topics import queries
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent, append_events
from tests.aio import run

pytestmark = pytest.mark.django_db(transaction=True)


def fill(count: int, topic: str = "t", **over: Any) -> None:
    append_events([NewEvent(topic, str(number + 1), **over) for number in range(count)])


def read(after: int = 0, limit: int = 100, **over: Any) -> queries.JsonPage:
    page = run(
        queries.read_records("t", **{"after": after, "limit": limit, "budget": 1 << 20, **over})
    )
    assert page is not None
    return page


def seqs(page: queries.JsonPage) -> list[int]:
    return [record["$seq"] for record in json.loads(b"[" + page.body + b"]")]


def test_no_topic_is_none():
    assert run(queries.read_records("t", after=0, limit=1, budget=1)) is None
    assert queries.read_after("t", 0, 1) is None
    assert run(queries.read_after_async("a\x01b", 0, 1)) is None


def test_records_are_spliced_in_as_they_were_written():
    text = '{"b": 1.0,  "a": 12345678901234567890123, "z": "\\u0000"}'
    append_events([NewEvent("t", text, tag='say "hi"\0', node="ü\\", meta="[ 1 ]")])
    ts = Event.objects.get().ts
    body = read(with_tags=True).body
    assert body.decode() == (
        f'{{"$seq":1,"$ts":{ts},"$node":"ü\\\\","$tag":"say \\"hi\\"\\u0000",'
        f'"data":{text},"meta":[ 1 ]}}'
    )
    assert read(with_meta=False, with_data=False).body.decode() == (
        f'{{"$seq":1,"$ts":{ts},"$node":"ü\\\\"}}'
    )
    page = queries.read_after("t", 0, 10)
    assert page is not None
    [record] = page.records
    assert (record.data, record.tag, record.node, record.meta) == (
        text,
        'say "hi"\0',
        "ü\\",
        "[ 1 ]",
    )


def test_a_limit_leaves_the_cursor_at_the_last_record():
    fill(10)
    page = read(after=2, limit=3)
    assert (seqs(page), page.next_after, page.caught_up) == ([3, 4, 5], 5, False)
    page = read(after=7, limit=3)
    assert (seqs(page), page.next_after, page.caught_up) == ([8, 9, 10], 10, True)
    page = read(after=10)
    assert (seqs(page), page.next_after, page.caught_up) == ([], 10, True)


def test_a_budget_ends_the_page_before_the_record_that_does_not_fit():
    append_events([NewEvent("t", json.dumps("x" * 8)) for _ in range(5)])  # 10 bytes each
    page = read(budget=25)
    assert (seqs(page), page.next_after) == ([1, 2], 2)
    assert seqs(read(budget=1)) == [1]
    assert seqs(read(after=4, budget=1)) == [5]
    assert seqs(read(budget=30, limit=3)) == [1, 2, 3]
    assert seqs(read(budget=1 << 20)) == [1, 2, 3, 4, 5]


def test_a_deleted_record_between_two_pages_is_passed_over():
    fill(5)
    Event.objects.filter(seq__in=[3, 5]).delete()
    page = read(after=1, limit=2)
    assert (seqs(page), page.next_after) == ([2, 4], 4)
    page = read(after=4)
    assert (seqs(page), page.next_after, page.caught_up) == ([], 5, True)


def test_a_node_filter_hides_and_moves_the_cursor():
    append_events([NewEvent("t", "1", node="me" if n % 2 else None) for n in range(10)])
    page = read(nodes=["me", "x"], limit=3)
    assert (seqs(page), page.next_after) == ([1, 3, 5], 5)
    page = read(after=8, nodes=["me"])
    assert (seqs(page), page.next_after, page.caught_up) == ([9], 10, True)
    assert len(seqs(read(nodes=[]))) == 10
    Topic.objects.update(dedupe_node=False)
    assert len(seqs(read(nodes=["me"]))) == 10


def test_a_filter_that_hides_everything_stops_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queries, "_WINDOW", 3)
    monkeypatch.setattr(queries, "_WINDOW_MAX", 5)
    fill(12, node="me")
    page = read(nodes=["me"])
    assert (seqs(page), page.next_after, page.caught_up) == ([], 5, False)
    page = read(after=10, nodes=["me"])
    assert (seqs(page), page.next_after, page.caught_up) == ([], 12, True)


def test_expired_records_are_gone_and_announced_and_stay_gone():
    Topic.objects.create(name="t", ttl_ms=1000)
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        fill(3)
        clock.shift(0.6)
        fill(2)
        clock.shift(0.4)
        assert len(seqs(read())) == 5  # exactly ttl_ms old is not older
        clock.shift(0.001)
        page = read()
        assert seqs(page) == [4, 5]
        assert page.gap is not None
        assert (page.gap.gap_from, page.gap.gap_to, page.gap.reason) == (1, 3, "ttl")
        topic = Topic.objects.get()
        assert (topic.count, topic.bytes, topic.ttl_floor, topic.earliest) == (2, 2, 3, 4)
        clock.shift(-3600)  # a clock that steps back brings nothing back
        assert seqs(read()) == [4, 5]
        clock.shift(7200)
        page = read(after=5)
        assert (seqs(page), page.marks.earliest) == ([], 6)
        assert page.gap is None
    topic = Topic.objects.get()
    assert (topic.count, topic.bytes, topic.earliest_ts) == (0, 0, None)


def test_a_long_retention_pass_goes_on_until_all_is_gone():
    Topic.objects.create(name="t", ttl_ms=1)
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        fill(1000)
        clock.shift(1)
        fill(2)
        assert seqs(read()) == [1001, 1002]


def test_a_byte_cap_takes_no_more_than_it_must():
    Topic.objects.create(name="t", cap_bytes=25)
    append_events([NewEvent("t", json.dumps("x" * 8)) for _ in range(3)])
    topic = Topic.objects.get()
    assert (topic.count, topic.bytes, topic.cap_floor) == (2, 20, 1)
    append_events([NewEvent("t", json.dumps("x" * 100))])  # larger than the cap: in and out (⚑18)
    topic = Topic.objects.get()
    assert (topic.count, topic.bytes, topic.cap_floor, topic.earliest) == (0, 0, 4, 5)


def test_a_cap_counts_live_records_only():
    """★17: what was deleted does not use up the cap."""
    Topic.objects.create(name="t", cap_records=3)
    fill(3)
    Event.objects.filter(seq=2).delete()
    Topic.objects.update(count=2, bytes=2)
    fill(1)
    topic = Topic.objects.get()
    assert (topic.count, topic.cap_floor) == (3, 0)
    fill(1)
    topic = Topic.objects.get()
    assert (topic.count, topic.cap_floor, topic.earliest) == (3, 1, 3)


def test_a_cursor_of_a_former_topic_starts_over_at_the_earliest():
    fill(3)
    page = read(after=2**64 - 1)
    assert page.gap is not None
    assert page.gap.reason == "recreated"
    assert seqs(page) == [1, 2, 3]
    feed = run(queries.read_feed("t", 50, 10))
    assert [record.seq for record in feed.records] == [1, 2, 3]
    assert feed.gap is not None
    assert feed.gap.reason == "recreated"


def test_the_feed_pages_without_loss_or_repeat():
    fill(25)
    cursor, seen = 0, []
    while True:
        page = run(queries.read_feed("t", cursor, 10))
        seen += [record.seq for record in page.records]
        cursor = page.next_after
        if not page.has_more:
            break
    assert seen == list(range(1, 26))
    assert run(queries.read_feed("absent", 7, 10)).next_after == 7


def test_a_waiting_feed_is_woken_by_an_append(redis: object):
    async def scene() -> queries.Page:
        waiting = asyncio.create_task(queries.read_feed("t", 0, 10, wait=60))
        while "topic:t" not in wakeups.hub()._waiters:
            await asyncio.sleep(0)
        await asyncio.to_thread(write)
        return await waiting

    def write() -> None:
        fill(1)
        connection.close()

    page = run(scene())
    assert [record.seq for record in page.records] == [1]


def test_the_statements_use_the_indexes_named_in_their_headers():
    fill(3)
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            params: dict[str, Any] = {"name": "t", "after": 0, "limit": 10, "now": 0}
            cursor.execute("EXPLAIN " + sql.statement("topics/read_after"), params)
            plan = str(cursor.fetchall())
        finally:
            cursor.execute("RESET enable_seqscan")
    assert re.search(r"topics_event_\d+_pkey", plan)
    assert "topic_once_per_name" in plan
