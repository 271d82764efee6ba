"""How much was written to a topic in the last minutes, as its records tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.keeping import eviction
from apps.topics.models import Event, Topic
from apps.topics.services import NewEvent, append_events
from apps.topics.vitals.throughput import PART_MS, SPAN_MS, Throughput, throughput

pytestmark = pytest.mark.django_db

START = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
PARTS = SPAN_MS // PART_MS


@pytest.fixture
def clock():
    with time_machine.travel(START, tick=False) as travelled:
        yield travelled


def write(count: int, data: str = '"abcdefgh"') -> None:
    append_events([NewEvent(topic="t", data=data)] * count)


def measured() -> Throughput:
    return throughput(Topic.objects.get(name="t").pk, now_ms=eviction.now_ms())


def records(found: Throughput) -> list[float | None]:
    return [part.records for part in found.parts]


def test_each_part_tells_what_was_written_in_it(clock):
    write(20)
    clock.shift(timedelta(seconds=15))
    write(30)
    clock.shift(timedelta(seconds=5))
    found = measured()
    assert len(found.parts) == PARTS
    assert records(found) == [0.0] * (PARTS - 2) + [2.0, 3.0]
    assert [part.bytes for part in found.parts[-2:]] == [20.0, 30.0]
    assert found.parts[-1].began_ms == eviction.now_ms() - PART_MS
    assert found.latest.records == 3.0


def test_what_is_being_written_counts_in_the_last_seconds_and_not_in_a_part(clock):
    clock.shift(timedelta(seconds=3))
    write(50)
    found = measured()
    assert set(records(found)) == {0.0}
    assert found.latest.records == 5.0


def test_what_was_written_before_is_no_part_of_it(clock):
    write(1000)
    clock.shift(timedelta(milliseconds=SPAN_MS + PART_MS))
    assert set(records(measured())) == {0.0}


def test_what_retention_has_taken_still_counts(clock):
    services.configure_topic(topic="t", wanted=TopicConfig(cap_records=5), caller="test")
    write(40)
    clock.shift(timedelta(seconds=10))
    assert Topic.objects.get(name="t").count == 5
    assert records(measured())[-1] == 4.0


def test_what_nobody_can_tell_is_none(clock):
    for _ in range(3):
        write(10)
        clock.shift(timedelta(seconds=9))
    Event.objects.filter(seq__lte=10).delete()
    # The second ten were the first that is left; what was before them is gone.
    assert records(measured()) == [None] * (PARTS - 1) + [1.0]
    Event.objects.all().delete()
    assert set(records(measured())) == {None}


def test_a_topic_that_was_never_written_to_is_quiet(clock):
    services.configure_topic(topic="t", wanted=TopicConfig(), caller="test")
    assert set(records(measured())) == {0.0}
    assert set(records(throughput(0, now_ms=eviction.now_ms()))) == {None}
