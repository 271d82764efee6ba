"""Deleting records: all of them or none for every reader, counters exact, and nothing read that needn't be."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction

from apps.core import sql
from apps.topics import predicates, queries, services
from apps.topics.config import TopicConfig
from apps.topics.keeping import removal
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def fill(count: int, topic: str = "t") -> Topic:
    """Append records of which every third has the tag `b`, the others `a`."""
    services.append_events([NewEvent(topic, str(n), tag="aab"[n % 3]) for n in range(count)])
    return Topic.objects.get(name=topic)


def counters(name: str = "t") -> tuple[int, int, int]:
    topic = Topic.objects.get(name=name)
    return topic.count, topic.bytes, topic.earliest


def live(name: str = "t") -> tuple[int, int, int]:
    """Count what the counters say."""
    topic = Topic.objects.get(name=name)
    rows = Event.objects.filter(topic=topic, seq__gte=topic.earliest).order_by("seq")
    sizes = list(rows.values_list("seq", "size"))
    return len(sizes), sum(size for _, size in sizes), sizes[0][0] if sizes else topic.head + 1


def in_threads(*work: Callable[[], object]) -> None:
    """Run things at once."""
    barrier, failed = threading.Barrier(len(work)), []

    def run(one: Callable[[], object]) -> None:
        try:
            barrier.wait(30)
            one()
        except Exception as exc:
            failed.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def delete(**what: Any) -> removal.Removed:
    return services.delete_records(topic="t", caller="test", **what)


@pytest.mark.parametrize("what", [{"before_seq": 50}, {"match": predicates.parse("b")}])
def test_until_it_is_committed_readers_see_all_and_then_nothing_of_it(what: dict[str, Any]):
    fill(90)
    seen: list[int] = []
    done, look = threading.Event(), threading.Event()

    def read() -> None:
        look.wait(30)
        page = queries.read_after("t", 0, 100)
        assert page is not None
        seen.append(len(page.records))
        done.set()
        connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    with transaction.atomic():
        removed = delete(**what)
        look.set()
        done.wait(30)
    reader.join()
    page = queries.read_after("t", 0, 100)
    assert page is not None
    assert (seen, len(page.records)) == ([90], 90 - removed.deleted)


def test_deletions_evictions_and_writers_at_once_keep_the_counters_exact(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(removal, "_WINDOW", 20)
    services.configure_topic(topic="t", wanted=TopicConfig(cap_records=150), caller="test")
    fill(120)

    def write() -> None:
        for _ in range(15):
            fill(6)

    def trim() -> None:
        for seq in range(0, 200, 20):
            delete(before_seq=seq)

    in_threads(
        write,
        write,
        trim,
        lambda: [delete(match=predicates.parse("b")) for _ in range(8)],
        lambda: [delete(match=predicates.parse("a*"), before_seq=n) for n in range(0, 240, 30)],
    )
    assert counters() == live()


def test_of_two_who_delete_the_same_each_record_counts_once():
    fill(300)
    removed: list[int] = []
    match = predicates.parse("a")

    def remove() -> None:
        removed.append(delete(match=match).deleted)

    in_threads(remove, remove, remove)
    assert sum(removed) == 200
    assert counters() == live()


def test_a_topic_made_anew_meanwhile_is_another(monkeypatch: pytest.MonkeyPatch):
    fill(10)
    original = removal.plan

    def then_recreate(name: str, **options: Any) -> removal.Plan | None:
        made = original(name, **options)
        monkeypatch.setattr(removal, "plan", original)
        services.delete_topic(topic="t", caller="test")
        services.forget()
        fill(4)
        return made

    monkeypatch.setattr(removal, "plan", then_recreate)
    assert delete(match=predicates.parse("*")).deleted == 4
    assert counters() == live() == (0, 0, 5)


def plan_of(statement: str, **params: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE topics_event, topics_topic")
        cursor.execute(f"EXPLAIN {sql.statement(statement)}", params)
        return "\n".join(row[0] for row in cursor.fetchall())


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("find_tagged", {"after": 0, "last": 10**9, "window": 50, "tag": "a", "prefix": None}),
        ("measure_records", {"after": 0, "last": 10**9, "window": 50}),
        ("delete_tagged", {"first": 10, "last": 60, "tag": "a", "prefix": None}),
        ("delete_seqs", {"seqs": [5, 6, 7]}),
        ("take_away", {"first": 10, "records": 1, "bytes": 1}),
    ],
)
def test_the_statements_find_records_by_their_key(statement: str, params: dict[str, Any]):
    """As their headers say; and never by sorting all of the topic."""
    topic = fill(5_000)
    fill(5_000, "other")
    found = plan_of(f"topics/{statement}", topic_id=topic.pk, **params)
    assert re.search(r"topics_event_\d+_pkey", found), found
    assert not re.search(r"Seq Scan on topics_event_\d+", found), found
    assert "Sort Key" not in found, found


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("read_topic", {"name": "topic-500", "now": 0}),
        ("read_marks", {"name": "topic-500"}),
        ("list_topics", {"lows": ["topic-5"], "highs": ["topic-5~"], "after": "", "limit": 10, "now": 0}),
        ("first_topics", {"limit": 10, "now": 0}),
    ],
)  # fmt: skip
def test_the_statements_find_topics_by_name(statement: str, params: dict[str, Any]):
    Topic.objects.bulk_create(Topic(name=f"topic-{n}") for n in range(2_000))
    found = plan_of(f"topics/{statement}", **params)
    assert "topic_once_per_name" in found, found
    assert "Seq Scan on topics_topic" not in found, found
