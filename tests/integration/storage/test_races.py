"""Writers, readers and the end of an execution meet."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import time_machine
from django.db import OperationalError, connection, transaction

from apps.access.auth import ANONYMOUS
from apps.core import clock
from apps.core.errors import PreconditionFailed
from apps.storage import blobs, events, services, sweeps
from apps.storage.errors import ExecutionEnded, ObjectNotFound
from apps.storage.incoming import Incoming
from apps.storage.keys import Key
from apps.storage.models import EventClock, Leftover, Object, Space
from apps.storage.services import Condition, NewObject
from apps.topics import queries as topics
from apps.topics.models import Event
from tests.integration.storage.test_sweeps import kept, store

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Call functions in threads that start together; return what each returned or raised."""
    barrier = threading.Barrier(len(works))
    found: list[Any] = [None] * len(works)

    def body(number: int) -> None:
        try:
            barrier.wait()
            found[number] = works[number]()
        except Exception as exc:
            found[number] = exc
        finally:
            connection.close()

    threads = [threading.Thread(target=body, args=[number]) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def told() -> list[dict[str, Any]]:
    rows = Event.objects.filter(topic__name=events.EVENTS_TOPIC).order_by("seq")
    return [json.loads(row.data) for row in rows]


def assert_consistent(place: Any) -> None:
    """Objects, sums, blobs and the log tell the same."""
    standing: dict[str, str] = {}
    for event in told():
        if event["type"] == events.CREATED:
            standing[event["key"]] = event["etag"]
        else:
            del standing[event["key"]]
    assert {one.key: one.etag for one in Object.objects.all()} == standing
    for space in Space.objects.all():
        sizes = list(Object.objects.filter(space=space).values_list("content_length", flat=True))
        assert (space.count, space.bytes) == (len(sizes), sum(sizes))
        assert sum(stage.count for stage in space.stages.all()) == len(sizes)
        assert sum(stage.bytes for stage in space.stages.all()) == sum(sizes)
    lengths = list(Object.objects.values_list("content_length", flat=True))
    of_all = EventClock.objects.values_list("count", "bytes").first() or (0, 0)
    assert of_all == (len(lengths), sum(lengths))
    sweeps.sweep()
    assert kept(place) == sorted(standing.values())
    assert not Leftover.objects.exists()


def test_ids_rise_with_the_log_whoever_writes(opened, place):
    # With the connection of the test itself, as many as the pool has.
    spaces = [opened() for _ in range(7)]

    def write(execution: str) -> None:
        for number in range(25):
            store(execution, f"s/{number}")

    assert at_once(*(lambda one=one: write(one) for one in spaces)) == [None] * 7
    ids = [UUID(event["id"]) for event in told()]
    assert len(ids) == 175
    assert ids == sorted(set(ids))
    assert {one.version for one in ids} == {7}
    assert_consistent(place)


def test_ids_rise_when_the_clock_is_set_back(execution):
    moment = clock.now()
    for minutes in (0, -5, 0, 1):
        with time_machine.travel(moment + timedelta(minutes=minutes), tick=False):
            store(execution)
    ids = [event["id"] for event in told()]
    assert ids == sorted(set(ids))
    assert UUID(ids[-1]).int >> 80 == clock.milliseconds(moment + timedelta(minutes=1))


def test_more_ids_than_a_millisecond_has_borrow_from_the_next(execution):
    with time_machine.travel(clock.now(), tick=False):
        store(execution)
        full = (clock.milliseconds(clock.now()) + 1) * 4096 - 2
        EventClock.objects.update(tick=full)
        for _ in range(3):
            store(execution)
    ids = [UUID(event["id"]) for event in told()][1:]
    assert ids == sorted(set(ids))
    assert [one.int >> 80 for one in ids] == [full // 4096, *[full // 4096 + 1] * 2]


def test_two_writers_of_one_key_follow_each_other(execution, place):
    for _ in range(5):
        found = at_once(*(lambda n=n: store(execution, content=b"x" * n) for n in range(1, 5)))
        assert all(isinstance(one, Object) for one in found), found
    assert len(told()) == 20
    assert_consistent(place)


def test_one_of_many_is_the_first(execution, place):
    def first() -> Object:
        new = NewObject(
            name="s/a", stage="s", content_type="text/plain", only_if=Condition(is_absent=True)
        )
        with Incoming() as arriving:
            return services.put_object(execution_id=UUID(execution), new=new, content=arriving)[0]

    found = at_once(*[first] * 6)
    assert sum(isinstance(one, Object) for one in found) == 1
    assert sum(isinstance(one, PreconditionFailed) for one in found) == 5
    assert_consistent(place)


def test_the_last_event_is_in_the_log_before_the_end_is(opened, place):
    for _ in range(20):
        execution = opened()
        heads: list[int] = []

        def end(execution: str = execution, heads: list[int] = heads) -> None:
            with transaction.atomic():
                services.close_spaces([UUID(execution)])
            # What is in the log as soon as the end is known to anybody.
            heads.append(Event.objects.filter(tag=events.tag_of(UUID(execution))).count())

        works = [lambda n=n, e=execution: store(e, f"s/{n}") for n in range(4)]
        found = at_once(*works, end)
        written = sum(isinstance(one, Object) for one in found)
        assert all(isinstance(one, Object | ExecutionEnded) for one in found[:-1]), found
        assert heads == [written]
    assert_consistent(place)


def test_the_end_waits_for_who_is_writing(execution):
    """Its event and then the end: a writer that has begun to tell is not overtaken."""
    writing, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with Incoming() as arriving:
            uploaded = services.upload(arriving)
        new = NewObject(name="s/a", stage="s", content_type="text/plain")
        with transaction.atomic():
            services.attach(execution_id=UUID(execution), new=new, uploaded=uploaded)
            writing.set()
            may_commit.wait(30)

    def close_without_patience() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '50ms'")
            services.close_spaces([UUID(execution)])

    def end() -> None:
        writing.wait(30)
        try:
            with pytest.raises(OperationalError, match="lock timeout"):
                close_without_patience()
        finally:
            may_commit.set()

    assert at_once(write, end) == [None, None]
    with transaction.atomic():
        services.close_spaces([UUID(execution)])
    assert len(told()) == 1


def test_deletions_and_writes_leave_one_truth(execution, place):
    key = Key(execution, "s/a")

    def delete() -> Any:
        return services.delete_object(key=key, caller=ANONYMOUS)

    for _ in range(6):
        found = at_once(delete, delete, lambda: store(execution, content=b"abc"))
        assert all(isinstance(one, Object | ObjectNotFound) for one in found), found
    assert_consistent(place)


def test_a_reader_of_the_old_content_reads_it_to_its_end(execution):
    first = store(execution, content=b"old content")
    reading = blobs.open_at(first.blob, 0)
    assert reading.read(4) == b"old "
    store(execution, content=b"something else")
    assert reading.read(100) == b"content"
    reading.close()
    with pytest.raises(blobs.BlobGone):
        blobs.open_at(first.blob, 0)


def test_a_sweep_and_a_slow_writer_decide_for_one_of_them(execution, place):
    """Both take the row that says the blob belongs to no object."""
    new = NewObject(name="s/a", stage="s", content_type="text/plain")
    for _ in range(10):
        with Incoming() as arriving:
            arriving.add(b"slow")
            uploaded = services.upload(arriving)
        Leftover.objects.update(due_at=clock.now())

        def attach(uploaded: Any = uploaded) -> Any:
            _, replaced = services.attach(execution_id=UUID(execution), new=new, uploaded=uploaded)
            return replaced and services.discard(replaced)

        at_once(attach, sweeps.sweep_leftovers)
        assert all((place / "objects" / one.blob).exists() for one in Object.objects.all())
    assert_consistent(place)


def test_the_topic_tells_executions_by_tag(opened):
    one, other = opened(), opened()
    for execution in (one, other, one):
        store(execution)
    page = topics.read_after(events.EVENTS_TOPIC, 0, 10)
    assert page is not None
    assert [record.tag for record in page.records] == [f"execution/{e}" for e in (one, other, one)]
