"""Retention takes away what is due without the topic's lock, and is exact whatever happens meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction

from apps.topics.keeping import eviction
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent, append_events

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def fill(count: int, topic: str = "t") -> None:
    append_events([NewEvent(topic, str(number)) for number in range(count)])


@pytest.fixture(params=["in one step", "by bisection"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few records or at many before the end of what goes is searched."""
    monkeypatch.setattr(eviction, "_CHUNK", 2 if request.param == "by bisection" else 256)


def evict_while(meanwhile: Callable[[], object]) -> None:
    """Evict on another connection, which finds the topic changed and locked, and changed for good when it has the lock."""

    def evict() -> None:
        try:
            eviction.evict_due("t")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            meanwhile()
            done = pool.submit(evict)
            with connection.cursor() as cursor:
                while not done.done():
                    cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
                    if cursor.fetchall():
                        break
            assert not done.done()
        done.result(timeout=20)


def assert_exact() -> None:
    topic = Topic.objects.get()
    live = list(Event.objects.filter(topic=topic, seq__gte=topic.earliest).order_by("seq"))
    assert topic.count == len(live)
    assert topic.bytes == sum(event.size for event in live)
    assert topic.earliest == (live[0].seq if live else topic.head + 1)
    assert topic.earliest_ts == (live[0].ts if live else None)


def marks() -> tuple[int, int, int, int]:
    topic = Topic.objects.get()
    return topic.head, topic.earliest, topic.count, topic.cap_floor


def test_appends_may_come_in_between():
    fill(10)
    Topic.objects.update(cap_bytes=3)

    def append() -> None:
        # An append evicts for itself what it pushes out: so nothing may be due by records.
        Topic.objects.update(head=12, count=12, bytes=12, last_write_ts=1)
        old = Event.objects.get(seq=10)
        for seq in (11, 12):
            Event.objects.create(
                topic_id=old.topic_id, seq=seq, ts=old.ts, size=1, total=seq, data="1"
            )

    evict_while(append)
    assert_exact()
    assert marks() == (12, 10, 3, 9)


def test_records_may_be_deleted_in_between():
    fill(10)
    Topic.objects.update(cap_records=3)
    evict_while(lambda: delete(5))
    assert_exact()
    assert marks() == (10, 8, 3, 7)


def test_the_config_may_change_in_between():
    fill(10)
    Topic.objects.update(cap_records=3)
    evict_while(lambda: Topic.objects.update(cap_records=7))
    assert_exact()
    assert marks() == (10, 4, 7, 3)


def test_everything_may_go():
    fill(10)
    Topic.objects.update(ttl_ms=1, earliest_ts=1)
    Event.objects.update(ts=1)
    evict_while(lambda: Topic.objects.update(last_read_ts=1))
    assert_exact()
    assert marks() == (10, 11, 0, 0)


# --- which records go (§8.2) --------------------------------------------------------------------


def sized(*sizes: int) -> None:
    append_events([NewEvent("t", "1" * size) for size in sizes])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("cap", range(1, 12))
def test_as_many_go_as_are_over_a_cap_of_records(cap: int):
    fill(10)
    Topic.objects.update(cap_records=cap)
    eviction.evict_due("t")
    assert_exact()
    left = min(cap, 10)
    assert marks() == (10, 11 - left, left, 10 - left)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("cap", "earliest"), [(30, 1), (29, 2), (26, 2), (25, 3), (20, 4), (14, 5), (13, 6), (1, 11)]
)
def test_as_few_go_as_make_room_under_a_cap_of_bytes(cap: int, earliest: int):
    sized(4, 1, 5, 6, 1, 3, 3, 2, 3, 2)
    Topic.objects.update(cap_bytes=cap)
    eviction.evict_due("t")
    assert_exact()
    assert marks()[1] == earliest
    assert Topic.objects.get().bytes <= cap


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("expired", range(11))
def test_all_that_are_older_go(expired: int):
    fill(10)
    Topic.objects.update(ttl_ms=100, earliest_ts=1)
    Event.objects.filter(seq__lte=expired).update(ts=1)
    Event.objects.filter(seq__gt=expired).update(ts=eviction.now_ms() + 60_000)
    eviction.evict_due("t")
    if expired:
        assert_exact()
    topic = Topic.objects.get()
    assert (topic.earliest, topic.ttl_floor, topic.cap_floor) == (expired + 1, expired, 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("expired", "cap"), [(3, 5), (5, 3), (7, 3), (10, 1)])
def test_what_goes_by_age_and_what_by_a_cap_is_told_apart(expired: int, cap: int):
    fill(10)
    Topic.objects.update(ttl_ms=100, earliest_ts=1, cap_records=cap)
    Event.objects.filter(seq__lte=expired).update(ts=1)
    Event.objects.filter(seq__gt=expired).update(ts=eviction.now_ms() + 60_000)
    eviction.evict_due("t")
    assert_exact()
    topic = Topic.objects.get()
    over = 10 - cap if 10 - cap > expired else 0
    assert (topic.ttl_floor, topic.cap_floor) == (expired, over)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("gap", [2, 5, 9])
def test_gaps_are_no_records(gap: int):
    fill(10)
    Topic.objects.update(cap_records=4)
    delete(gap)
    eviction.evict_due("t")
    assert_exact()
    assert Topic.objects.get().count == 4


def test_totals_go_on_from_batch_to_batch_and_topic_to_topic():
    append_events(
        [NewEvent("a", "1"), NewEvent("b", "22"), NewEvent("a", "333"), NewEvent("b", "4")]
    )
    append_events([NewEvent("b", "55"), NewEvent("a", "6")])
    found = Event.objects.order_by("topic__name", "seq").values_list("topic__name", "total", "size")
    assert list(found) == [
        ("a", 1, 1), ("a", 4, 3), ("a", 5, 1), ("b", 2, 2), ("b", 3, 1), ("b", 5, 2),
    ]  # fmt: skip
    assert list(Topic.objects.order_by("name").values_list("written", flat=True)) == [5, 5]


def delete(seq: int) -> None:
    gone = Event.objects.filter(topic__name="t", seq=seq)
    size = gone.get().size
    gone.delete()
    topic = Topic.objects.get()
    Topic.objects.update(count=topic.count - 1, bytes=topic.bytes - size)
