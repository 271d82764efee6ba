"""Retention takes away what is due without the topic's lock, and is exact whatever happens meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction

from apps.topics import eviction, services
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent, append_events

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _forget() -> None:
    services.forget()


def fill(count: int, topic: str = "t") -> None:
    append_events([NewEvent(topic, str(number)) for number in range(count)])


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
            Event.objects.create(topic_id=old.topic_id, seq=seq, ts=old.ts, size=1, data="1")

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


def delete(seq: int) -> None:
    gone = Event.objects.filter(topic__name="t", seq=seq)
    size = gone.get().size
    gone.delete()
    topic = Topic.objects.get()
    Topic.objects.update(count=topic.count - 1, bytes=topic.bytes - size)
