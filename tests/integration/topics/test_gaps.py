"""Gaps between live records: told exactly, then part of the floor (topics v0 §16.6, ★28)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction

from apps.core import pgarray, sql, threads
from apps.topics import queries, services
from apps.topics.models import Gap, Topic
from apps.topics.routers import forwarding, gaps
from apps.topics.routers import services as routers
from apps.topics.routers.config import RouterConfig
from apps.topics.services import NewEvent, append_events
from tests.integration.topics.test_append_events import in_threads

if TYPE_CHECKING:
    from apps.topics.keeping.retention import Gap as Told

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _routed() -> None:
    """Have `b` fed from `a`, which keeps only one record."""
    routers.configure_router(router="r", wanted=RouterConfig(source="a", dest="b"), caller="test")
    Topic.objects.filter(name="a").update(cap_records=1)


def lose(records: int) -> None:
    """Have so many records lost, and one copied after them."""
    append_events([NewEvent("a", str(number)) for number in range(records + 1)])
    threads.run_here(forwarding.catch_up("b"))


def told(after: int) -> Told | None:
    page = queries.read_after("b", after, 100)
    assert page is not None
    return page.gap


def ranges() -> list[tuple[int, int]]:
    return [(gap.first_seq, gap.last_seq) for gap in Gap.objects.order_by("pk")]


def marks() -> tuple[int, bool]:
    topic = Topic.objects.get(name="b")
    return topic.source_floor, topic.has_gaps


def test_a_reader_meets_each_gap_where_it_is() -> None:
    lose(0)
    lose(2)
    lose(3)
    assert ranges() == [(2, 3), (5, 7)]
    after, seen = 0, []
    while after < 8:
        page = queries.read_after("b", after, 100)
        assert page is not None
        seen.append(
            (page.gap and (page.gap.gap_from, page.gap.gap_to), [r.seq for r in page.records])
        )
        after = page.next_after
    assert seen == [(None, [1]), ((2, 3), [4]), ((5, 7), [8])]
    # Between pages of one record, too.
    page = queries.read_after("b", 3, 1)
    assert page is not None
    assert (page.gap, [record.seq for record in page.records], page.has_more) == (None, [4], True)


def test_a_gap_at_the_end_is_told_before_anything_follows() -> None:
    lose(0)
    Topic.objects.filter(name="b").update(cap_records=1, discard="reject")
    append_events([NewEvent("a", "1"), NewEvent("a", "2")])
    threads.run_here(forwarding.catch_up("b"))
    gap = told(1)
    assert gap is not None
    assert (gap.gap_from, gap.gap_to, gap.earliest_seq, gap.head_seq) == (2, 2, 3, 2)


def test_gaps_below_everything_are_forgotten_and_nobody_notices() -> None:
    lose(0)
    lose(2)
    lose(3)
    services.delete_records(topic="b", before_seq=2, caller="test")
    before = [told(after) for after in range(9)]
    assert marks() == (0, True)
    gaps.trim_gaps()
    assert ranges() == [(5, 7)]
    assert marks() == (3, True)
    assert [told(after) for after in range(9)] == before
    services.delete_records(topic="b", before_seq=8, caller="test")
    before = [told(after) for after in range(9)]
    gaps.trim_gaps()
    assert ranges() == []
    assert marks() == (7, False)
    assert [told(after) for after in range(9)] == before
    gaps.trim_gaps()
    assert marks() == (7, False)


def test_a_topic_that_goes_takes_its_gaps_along() -> None:
    lose(0)
    lose(2)
    services.delete_topic(topic="b", caller="test")
    assert not Gap.objects.exists()


def test_a_gap_that_comes_while_others_go_is_kept() -> None:
    lose(0)
    for _ in range(10):
        lose(1)
        services.delete_records(topic="b", before_seq=10_000, caller="test")
        lose(0)

        def work(number: int) -> None:
            if number:
                gaps.trim_gaps()
            else:
                lose(1)
            connection.close()

        assert in_threads(2, work) == []
        topic = Topic.objects.get(name="b")
        last = Gap.objects.order_by("-pk").first()
        assert last is not None
        assert topic.has_gaps
        gap = told(last.last_seq - 1)
        assert gap is not None
        assert gap.gap_to == last.last_seq


def test_the_sweep_passes_over_topics_in_use() -> None:
    lose(0)
    lose(1)
    services.delete_records(topic="b", before_seq=10_000, caller="test")
    with transaction.atomic():
        Topic.objects.select_for_update(no_key=True).get(name="b")
        errors = in_threads(1, lambda _: gaps.trim_gaps())
    assert errors == []
    assert ranges() == [(2, 2)]


def test_a_loss_of_nothing_live_below_is_no_row() -> None:
    lose(3)
    assert ranges() == []
    assert marks() == (3, False)
    topic = Topic.objects.get(name="b")
    sql.run_bound("topics/routers/absorb_gaps", ids=pgarray.bigints([topic.pk]))
    assert marks() == (3, False)
