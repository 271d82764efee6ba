"""topics v0 §17.4, ⚑33: a session of many topics is resumed by an id that fits a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.topics.models import WatchSession
from apps.topics.watch import streams
from tests.contract.topics.sse import id_of

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

NAMES = [f"{number:02d}.".ljust(255, "x") for number in range(24)]
FIRST, LAST = NAMES[0], NAMES[-1]


@pytest.fixture
def url(api: Api) -> str:
    """The stream of a session of topics with the longest names, of which two have records."""
    for name in NAMES[1:-1]:
        api.put(f"/v0/topics/{name}")
    api.write(FIRST, 1, 2, 3)
    api.write(LAST, "a")
    return api.watch({name: {} for name in NAMES}, limit=1)


def test_its_id_fits_a_header_and_rewinds(api: Api, url: str):
    with api.follow(url) as stream:
        first = stream.records(1, topic=FIRST)
        stream.records(2)
        stream.records(3)
    assert len(first.id) < 1024
    with api.follow(url, last_event_id=first.id) as stream:
        again = stream.records(2, topic=FIRST)
        assert again.data["from_seq"] == 1


def test_after_a_crash_the_client_knows_better_than_the_row(api: Api, url: str):
    with api.follow(url) as stream:
        told = [stream.records(data, topic=FIRST) for data in (1, 2)][-1]
    api.run(streams.write_down())
    session = WatchSession.objects.get()
    session.positions[FIRST][2] = 0
    session.streams = 1
    session.save()
    with api.follow(url, last_event_id=told.id) as stream:
        stream.records(3, topic=FIRST)


def test_the_id_of_another_session_moves_nothing(api: Api, url: str):
    api.put("/v0/topics/z")
    topics: dict[str, Any] = {name: {} for name in [*NAMES[:-1], "z"]}
    others = api.watch(topics, limit=1)
    with api.follow(others) as stream:
        foreign = stream.records(1, topic=FIRST)
    with api.follow(url, last_event_id=foreign.id) as stream:
        stream.records(1, topic=FIRST)


@pytest.mark.parametrize("told", [[], ["0" * 16, []], ["0" * 16, [9], {}], {FIRST: "x"}])
def test_an_id_that_was_never_given_is_ignored(api: Api, url: str, told: object):
    with api.follow(url, last_event_id=id_of(told)) as stream:
        stream.records(1, topic=FIRST)


def test_a_topic_that_was_recreated_is_told_from_its_beginning(api: Api, url: str):
    with api.follow(url) as stream:
        seen = [stream.records(data, topic=FIRST) for data in (1, 2, 3)][-1]
    api.delete(f"/v0/topics/{FIRST}")
    api.write(FIRST, 4, 5, 6, 7)
    with api.follow(url, last_event_id=seen.id) as stream:
        lost = stream.expect("tombstone", topic=FIRST, reason="recreated")
        fresh = stream.records(4, topic=FIRST)
    with api.follow(url, last_event_id=lost.id) as stream:
        stream.records(4, topic=FIRST)
    with api.follow(url, last_event_id=fresh.id) as stream:
        stream.records(5, topic=FIRST)
