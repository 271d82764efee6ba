"""How far readers are behind, many of them at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.topics import queries, services
from apps.topics.config import TopicConfig
from apps.topics.queries import Backlog
from apps.topics.services import NewEvent, append_events

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_place_is_told_in_its_order():
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as moving:
        append_events([NewEvent("a", "1"), NewEvent("b", "1")])
        first = clock.milliseconds(clock.now())
        moving.shift(1)
        append_events([NewEvent("a", "2")])
    [behind, there, missing, other] = queries.backlogs([("a", 0), ("a", 2), ("no", 0), ("b", 0)])
    assert missing is None
    assert behind is not None
    assert there == Backlog(behind.topic_id, 2, None)
    assert behind == Backlog(behind.topic_id, 2, first)
    assert other is not None
    assert (other.head, other.oldest_ts) == (1, first)
    assert queries.backlogs([]) == []


def test_what_retention_has_taken_is_nobodys_backlog():
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as moving:
        services.configure_topic(topic="t", wanted=TopicConfig(ttl_ms=1_000), caller="test")
        append_events([NewEvent("t", "1")])
        moving.shift(2)
        [found] = queries.backlogs([("t", 0)])
    assert found is not None
    assert (found.head, found.oldest_ts) == (1, None)


def test_it_is_one_statement_whatever_their_number():
    append_events([NewEvent(f"t{number}", "1") for number in range(20)])
    with CaptureQueriesContext(connection) as captured:
        queries.backlogs([(f"t{number}", 0) for number in range(20)])
    assert len(captured) == 1
