"""trim_records: the disk gets back what nobody can read, by the segment or record by record, and nothing else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from django.db import connection, transaction

from apps.core import sql
from apps.topics import queries, services
from apps.topics.disk import remains, segments, sweep
from apps.topics.keeping import eviction, settling
from apps.topics.models import DeletedTopic, Event, IdempotencyKey, Remains, Topic
from apps.topics.services import NewEvent, append_events
from tests.new_log import renew_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2030, 1, 1, tzinfo=UTC)
SIZE = 100


@pytest.fixture(autouse=True)
def clock(settings: Any) -> Iterator[time_machine.Traveller]:
    """Set the clock, and make segments small and the log new; leave it new."""
    settings.GYOZA_SEGMENT_RECORDS = SIZE
    renew_log()
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller
    renew_log()


def fill(topic: str, count: int) -> None:
    append_events([NewEvent(topic=topic, data=str(n)) for n in range(count)])


def bounds() -> list[tuple[int | None, int | None]]:
    return [(segment.low, segment.high) for segment in segments.all_segments()]


def cap(topic: str, records: int) -> None:
    Topic.objects.filter(name=topic).update(cap_records=records)
    settling.settle(topic)


def seqs(topic: str) -> list[int]:
    page = queries.read_after(topic, 0, 10_000)
    assert page is not None
    return [record.seq for record in page.records]


def on_disk(topic: str) -> list[int]:
    found = Event.objects.filter(topic__name=topic).order_by("seq")
    return list(found.values_list("seq", flat=True))


def elsewhere(work: Callable[[], Any]) -> Any:
    """Do something on another connection."""

    def body() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(body).result(timeout=20)


# --- segments -----------------------------------------------------------------------------------


def test_the_open_segment_is_closed_while_it_is_empty():
    sweep.trim_records()
    assert bounds() == [(None, SIZE), (SIZE, None)]
    fill("t", SIZE // 2 - 1)
    sweep.trim_records()
    assert bounds() == [(None, SIZE), (SIZE, None)]
    fill("t", 1)
    sweep.trim_records()
    assert bounds() == [(None, SIZE), (SIZE, 2 * SIZE), (2 * SIZE, None)]


def test_an_append_finds_its_place_when_nobody_has_swept():
    sweep.trim_records()
    fill("t", 5 * SIZE)
    assert seqs("t") == list(range(1, 5 * SIZE + 1))
    sweep.trim_records()
    assert bounds() == [(None, SIZE), (SIZE, 6 * SIZE), (6 * SIZE, None)]
    fill("t", SIZE)
    assert seqs("t") == list(range(1, 6 * SIZE + 1))


def test_a_segment_is_dropped_when_nothing_in_it_is_live():
    sweep.trim_records()
    fill("t", 2 * SIZE)
    cap("t", SIZE // 2)
    sweep.trim_records()  # looks where writers are
    assert sweep.trim_records()
    assert bounds()[0][0] == SIZE
    assert on_disk("t")[0] <= SIZE
    assert seqs("t") == list(range(SIZE + SIZE // 2 + 1, 2 * SIZE + 1))


def test_a_segment_is_kept_for_one_live_record():
    sweep.trim_records()
    fill("still", 1)
    fill("t", 2 * SIZE)
    cap("t", 1)
    sweep.trim_records()
    sweep.trim_records()
    assert bounds()[0] == (None, SIZE)
    assert seqs("still") == [1]


def test_a_segment_of_a_deleted_topic_is_dropped():
    sweep.trim_records()
    fill("gone", 2 * SIZE)
    services.delete_topic(topic="gone", caller="test")
    sweep.trim_records()
    sweep.trim_records()
    assert bounds()[0][0] == SIZE


def test_a_segment_is_kept_while_somebody_may_still_write_into_it():
    sweep.trim_records()
    fill("t", 1)
    written, seen = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with transaction.atomic():
            fill("slow", 3)
            written.set()
            assert seen.wait(20)
        connection.close()

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert written.wait(20)
    fill("t", 2 * SIZE)
    cap("t", 1)
    sweep.trim_records()
    sweep.trim_records()
    kept = bounds()[0]
    seen.set()
    writer.join()
    assert kept == (None, SIZE)
    sweep.trim_records()
    sweep.trim_records()
    assert seqs("slow") == [1, 2, 3]


def test_the_segment_that_is_written_to_is_never_dropped():
    sweep.trim_records()
    fill("t", 10)
    cap("t", 1)
    fill("t", 1)
    services.delete_topic(topic="t", caller="test")
    sweep.trim_records()
    sweep.trim_records()
    assert bounds()[0] == (None, SIZE)


def test_writers_never_wait_long_for_a_segment():
    sweep.trim_records()
    fill("t", SIZE)
    with transaction.atomic():
        fill("t", 1)  # the log is in use until this commits
        elsewhere(segments.open_ahead)
    assert bounds() == [(None, SIZE), (SIZE, None)]
    segments.open_ahead()
    assert bounds()[-1][0] == 2 * SIZE


def test_what_a_process_that_died_has_detached_is_dropped():
    sweep.trim_records()
    fill("t", 2 * SIZE)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE topics_event DETACH PARTITION topics_event_0")
    sweep.trim_records()
    assert sql.run("topics/disk/list_detached").rows == []
    assert "topics_event_0" not in connection.introspection.table_names()


def test_a_detachment_that_was_interrupted_is_ended():
    sweep.trim_records()
    fill("t", 2 * SIZE)
    services.delete_topic(topic="t", caller="test")
    sweep.trim_records()
    reading, done = threading.Event(), threading.Event()

    def read_slowly() -> None:
        with transaction.atomic():
            Event.objects.count()
            reading.set()
            assert done.wait(20)
        connection.close()

    reader = threading.Thread(target=read_slowly)
    reader.start()
    assert reading.wait(20)
    segments._DETACH_WAIT_MS, patience = 10, segments._DETACH_WAIT_MS
    try:
        assert segments.drop_dead(below=SIZE) == []
    finally:
        segments._DETACH_WAIT_MS = patience
        done.set()
        reader.join()
    assert [s.name for s in segments.all_segments() if s.detaching] == ["topics_event_0"]
    sweep.trim_records()
    assert bounds()[0][0] == SIZE
    assert "topics_event_0" not in connection.introspection.table_names()


def test_one_process_at_a_time_sweeps():
    sql.run("topics/disk/take_sweep")
    assert elsewhere(sweep.trim_records) is False
    sql.run("topics/disk/leave_sweep")
    assert sweep.trim_records()


# --- remnants -----------------------------------------------------------------------------------


def sweep_long(clock: time_machine.Traveller) -> None:
    """Sweep until every segment has had its turn."""
    for _ in range(8):
        clock.shift(10)
        sweep.trim_records()


def leave_one_in_each_segment(topic: str, segments_to_fill: int) -> None:
    for _ in range(segments_to_fill):
        sweep.trim_records()
        fill(topic, 1)
        fill("t", SIZE - 1)
    sweep.trim_records()


def test_few_live_records_don_t_keep_segments(clock: time_machine.Traveller):
    leave_one_in_each_segment("still", 5)
    cap("t", 10)
    sweep_long(clock)
    assert seqs("still") == [1, 2, 3, 4, 5]
    assert seqs("t") == list(range(5 * (SIZE - 1) - 9, 5 * (SIZE - 1) + 1))
    # The oldest has gathered what those between held.
    low, high = bounds()[0]
    assert (low, high) == (None, SIZE)
    assert len(bounds()) <= 4
    ids = list(
        Event.objects.order_by("seq").filter(topic__name="still").values_list("id", flat=True)
    )
    assert ids == sorted(ids)


def test_many_live_records_stay_where_they_are(clock: time_machine.Traveller):
    leave_one_in_each_segment("still", 4)
    before = dict(Event.objects.filter(topic__name="t").values_list("seq", "id"))
    sweep_long(clock)
    assert dict(Event.objects.filter(topic__name="t").values_list("seq", "id")) == before


def test_moved_records_are_deleted_like_others(clock: time_machine.Traveller):
    leave_one_in_each_segment("still", 5)
    cap("t", 10)
    sweep_long(clock)
    services.delete_records(topic="still", before_seq=4, caller="test")
    assert seqs("still") == [4, 5]
    services.delete_topic(topic="still", caller="test")
    sweep_long(clock)
    clock.shift(remains.GRACE)
    sweep_long(clock)
    assert bounds()[0][0] is not None


# --- records ------------------------------------------------------------------------------------


def test_dead_records_are_deleted_after_their_grace(clock: time_machine.Traveller):
    fill("t", 20)
    cap("t", 5)
    sweep.trim_records()
    assert on_disk("t") == list(range(1, 21))
    clock.shift(remains.GRACE)
    sweep.trim_records()
    assert on_disk("t") == seqs("t") == list(range(16, 21))
    assert Topic.objects.get(name="t").swept == 16
    assert not Remains.objects.exists()


def test_what_dies_later_has_a_grace_of_its_own(clock: time_machine.Traveller):
    fill("t", 20)
    cap("t", 15)
    sweep.trim_records()
    cap("t", 5)
    clock.shift(remains.GRACE)
    sweep.trim_records()
    assert on_disk("t") == list(range(6, 21))
    sweep.trim_records()
    assert on_disk("t") == list(range(6, 21))
    clock.shift(remains.GRACE)
    sweep.trim_records()
    assert on_disk("t") == list(range(16, 21))


def test_deletion_goes_on_where_it_has_stopped(clock: time_machine.Traveller):
    fill("t", 20)
    cap("t", 5)
    remains.note()
    clock.shift(remains.GRACE)
    remains.delete_due(until=0)  # the time is up at once
    assert Remains.objects.get().first == 1
    remains._BATCH, batch = 4, remains._BATCH
    try:
        sweep.trim_records()
    finally:
        remains._BATCH = batch
    assert on_disk("t") == list(range(16, 21))


def test_nothing_is_left_of_a_deleted_topic(clock: time_machine.Traveller):
    fill("t", 20)
    topic = Topic.objects.get(name="t")
    IdempotencyKey.objects.create(
        topic=topic, key=b"k", created_ts=eviction.now_ms(), first_seq=1, last_seq=1
    )
    services.delete_topic(topic="t", caller="test")
    fill("t", 3)
    sweep.trim_records()
    clock.shift(remains.GRACE)
    sweep.trim_records()
    assert not Event.objects.filter(topic_id=topic.pk).exists()
    assert not IdempotencyKey.objects.exists()
    assert not DeletedTopic.objects.exists()
    assert seqs("t") == [1, 2, 3]


def test_records_of_a_topic_that_nobody_reads_expire(clock: time_machine.Traveller):
    fill("t", 3)
    Topic.objects.update(ttl_ms=1000)
    clock.shift(timedelta(seconds=2))
    sweep.trim_records()
    assert Topic.objects.get().count == 0
    assert Topic.objects.get().ttl_floor == 3


def test_a_cap_that_was_lowered_by_somebody_who_died_is_kept_all_the_same():
    """§8.2: the config is committed before what it doesn't keep goes."""
    fill("t", 5)
    Topic.objects.update(cap_records=2)
    sweep.trim_records()
    topic = Topic.objects.get()
    assert (topic.count, topic.cap_floor, topic.earliest) == (2, 3, 4)


# --- keys ---------------------------------------------------------------------------------------


def test_keys_live_as_long_as_their_topic_remembers_them(clock: time_machine.Traveller):
    fill("short", 1)
    fill("long", 1)
    fill("forever", 1)
    Topic.objects.filter(name="long").update(idempotency_window_ms=3_600_000)
    Topic.objects.filter(name="forever").update(idempotency_window_ms=2**64 - 1)
    for topic in Topic.objects.all():
        for number in range(3):
            IdempotencyKey.objects.create(
                topic=topic,
                key=b"%d" % number,
                created_ts=eviction.now_ms() + 1000 * number,
                first_seq=1,
                last_seq=1,
            )
    clock.shift(timedelta(milliseconds=120_000))  # a hit needs now − created ≤ window (§2.10)
    sweep.trim_records()
    assert IdempotencyKey.objects.count() == 9
    clock.shift(timedelta(milliseconds=1001))
    sweep.trim_records()
    left = IdempotencyKey.objects.order_by("topic__name", "key").values_list("topic__name", "key")
    assert [(name, bytes(key)) for name, key in left if name == "short"] == [("short", b"2")]
    assert len(left) == 7
