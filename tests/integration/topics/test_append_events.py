"""append_events: order, isolation, locks, and what a crash of Postgres leaves behind."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from apps.core import sql
from apps.topics import services
from apps.topics.appending import batch
from apps.topics.appending.batch import Record
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent, append_events


def make_event(topic: str = "t", data: str = "1", **over: Any) -> NewEvent:
    return NewEvent(topic=topic, data=data, **over)


def stored(topic: str) -> list[tuple[int, str]]:
    rows = Event.objects.filter(topic__name=topic).order_by("seq").values_list("seq", "data")
    return list(rows)


def in_threads(count: int, work: Any) -> list[BaseException]:
    """Run `work(number)` in threads that start together; return what they raised."""
    barrier, errors = threading.Barrier(count), []

    def body(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as exc:
            errors.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=body, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.django_db
def test_it_numbers_records_in_order_per_topic() -> None:
    append_events([make_event("a", "1"), make_event("b", "2"), make_event("a", "3")])
    append_events([make_event("a", "4")])
    assert stored("a") == [(1, "1"), (2, "3"), (3, "4")]
    assert stored("b") == [(1, "2")]
    topic = Topic.objects.get(name="a")
    assert (topic.head, topic.count, topic.bytes, topic.earliest) == (3, 3, 3, 1)
    assert topic.earliest_ts is not None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "data",
    [
        '{"b": 1.0,  "a": 12345678901234567890123, "a": 2}',
        '"\\u0000 and \\ud83d\\ude00"',
        "\n[ 1e400 ]",
        '"ü"',
    ],
)
def test_it_keeps_the_text_byte_for_byte(data: str) -> None:
    append_events([make_event(data=data, meta=data, tag="a\0b", node="ü\0")])
    event = Event.objects.get(topic__name="t")
    assert (event.data, event.meta) == (data, data)
    assert event.tag == "a\\u0000b"
    assert batch.unescape(event.tag) == "a\0b"


@pytest.mark.django_db
def test_it_counts_compact_bytes() -> None:
    append_events([make_event(data='{ "a" : "x y" }', meta="[ 1, 2 ]")])
    assert Topic.objects.get(name="t").bytes == len('{"a":"x y"}') + len("[1,2]")


@pytest.mark.django_db
def test_it_appends_any_number_in_one_statement(django_assert_num_queries: Any) -> None:
    names = [f"t{number}" for number in range(50)]
    services.ensure_topics(names)
    services.remember(names)
    with django_assert_num_queries(1):
        append_events([make_event(name, "1") for name in names * 3])
    assert Event.objects.count() == 150


@pytest.mark.django_db
def test_it_drops_what_has_no_topic_unless_told_to_ensure() -> None:
    append_events([make_event("absent")], ensure=False)
    assert not Topic.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_it_finds_a_topic_that_was_deleted_and_is_needed_again() -> None:
    append_events([make_event("t", "1"), make_event("u", "1")])
    Topic.objects.get(name="t").delete()
    append_events([make_event("t", "2"), make_event("u", "2")])
    topic = Topic.objects.get(name="t")
    assert (topic.head, topic.count) == (1, 1)
    assert Topic.objects.get(name="u").head == 2


@pytest.mark.django_db
def test_a_full_topic_that_rejects_takes_what_has_happened() -> None:
    Topic.objects.create(name="t", cap_records=1, discard="reject")
    append_events([make_event(data=str(number)) for number in range(3)])
    assert len(stored("t")) == 3


@pytest.mark.django_db
def test_a_capped_topic_keeps_the_newest() -> None:
    Topic.objects.create(name="t", cap_records=2)
    append_events([make_event(data=str(number)) for number in range(5)])
    topic = Topic.objects.get(name="t")
    assert (topic.count, topic.bytes, topic.cap_floor, topic.earliest) == (2, 2, 3, 4)


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_append_leaves_no_trace() -> None:
    append_events([make_event()])

    def append_and_fail() -> None:
        with transaction.atomic():
            append_events([make_event(data="2")])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        append_and_fail()
    append_events([make_event(data="3")])
    assert stored("t") == [(1, "1"), (2, "3")]


@pytest.mark.django_db(transaction=True)
def test_commit_order_is_seq_order_for_every_reader() -> None:
    """8 writers, some of which dawdle before they commit; readers see every seq once, in order, without a gap."""
    writers, each = 8, 40
    append_events([make_event()])
    done = threading.Event()
    seen: dict[int, list[int]] = {}

    def read(number: int) -> None:
        cursor, mine = 0, seen.setdefault(number, [])
        while not (done.is_set() and cursor == writers * each + 1):
            page = list(
                Event.objects.filter(topic__name="t", seq__gt=cursor)
                .order_by("seq")
                .values_list("seq", flat=True)[:50]
            )
            mine += page
            cursor = page[-1] if page else cursor

    def write(number: int) -> None:
        dice = random.Random(number)
        for step in range(each):
            with transaction.atomic():
                append_events([make_event(data=f"[{number},{step}]")])
                if dice.random() < 0.1:
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT pg_sleep(0.003)")

    def follow(number: int) -> None:
        read(number)
        connection.close()

    readers = [threading.Thread(target=follow, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    errors = in_threads(writers, write)
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    for mine in seen.values():
        assert mine == list(range(1, writers * each + 2))


@pytest.mark.django_db(transaction=True)
def test_batches_over_shared_topics_never_deadlock() -> None:
    """Every writer names the same topics in another order; a deadlock would raise in one of them."""
    names = [f"t{number}" for number in range(12)]

    def write(number: int) -> None:
        dice = random.Random(number)
        for _ in range(25):
            chosen = dice.sample(names, 6)
            with transaction.atomic():
                append_events([make_event(name) for name in chosen])

    assert in_threads(8, write) == []
    assert sum(Topic.objects.values_list("head", flat=True)) == 8 * 25 * 6
    assert Event.objects.count() == 8 * 25 * 6


@pytest.mark.django_db
def test_the_plan_takes_the_locks_above_the_sort() -> None:
    services.ensure_topics(["a", "b"])
    params = batch.append_params(
        {"b": [Record(data=b"1", size=1)], "a": [Record(data=b"1", size=1)]},
        now=1,
        roomy_only=False,
        relaxed=False,
    )
    plan = explain("topics/append_records", params)
    [lock] = [node for node in walk(plan) if node["Node Type"] == "LockRows"]
    [below] = [child for child in lock["Plans"] if child["Parent Relationship"] == "Outer"]
    assert below["Node Type"] in {"Sort", "Index Scan"}
    if below["Node Type"] == "Sort":
        assert below["Sort Key"] == ['t.name COLLATE "C"']
    else:
        assert below["Index Name"] == "topic_once_per_name"


def explain(name: str, params: dict[str, Any]) -> dict[str, Any]:
    from django.db.backends.postgresql.base import ServerBindingCursor

    connection.ensure_connection()
    cursor: Any = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    cursor.execute("EXPLAIN (FORMAT JSON) " + sql.statement(name), params)
    return dict(cursor.fetchone()[0][0]["Plan"])


def walk(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in walk(child))]


@pytest.mark.django_db(transaction=True)
def test_a_killed_connection_loses_its_batch_whole() -> None:
    append_events([make_event()])

    def append_and_die() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            append_events([make_event(data=str(number)) for number in range(100)])
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(OperationalError):
        append_and_die()
    connection.close()
    append_events([make_event(data="after")])
    assert stored("t") == [(1, "1"), (2, "after")]


@pytest.mark.django_db
def test_after_a_crash_no_acknowledged_seq_is_used_again() -> None:
    """Postgres empties the unlogged mark when it recovers; the reserved seqs are then skipped (Appendix B.12)."""
    append_events([make_event(), make_event("empty")])
    Topic.objects.filter(name="t").update(reserved=257)
    Topic.objects.filter(name="empty").update(reserved=300, count=0, bytes=0, earliest=2)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM topics_intact")
    append_events([make_event(data="2"), make_event("empty", "2")])
    assert stored("t") == [(1, "1"), (258, "2")]
    assert Topic.objects.get(name="empty").earliest == 301
    append_events([make_event(data="3")])
    assert stored("t")[-1] == (259, "3")
