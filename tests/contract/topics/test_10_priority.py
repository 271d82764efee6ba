"""topics v0 §10: the priority, as states and lists show it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import time_machine

from apps.topics.models import Topic

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_a_look_counts_as_a_read_unless_told_otherwise(api: Api):
    """§10, §11.2."""
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        api.write("t", 1)
        found = api.state("t", "?touch=false")
        assert (found["last_read_ts"], found["effective_priority"]) == (None, 0)
        assert api.state("t")["effective_priority"] == 500
        read = api.state("t", "?touch=0")["last_read_ts"]
        clock.shift(30)
        found = api.state("t", "?touch=false")
        assert (found["last_read_ts"], found["effective_priority"]) == (read, 250)
        api.diff("t")
        assert api.state("t", "?touch=false")["effective_priority"] == 500
        assert api.state("t", "?touch=nonsense")["last_read_ts"] == read + 30_000


@pytest.mark.usefixtures("still")
def test_a_list_touches_only_when_asked_to(api: Api):
    api.put("/v0/topics/t", {})
    assert api.listing()["topics"][0]["effective_priority"] == 0
    assert api.listing("?touch=true")["topics"][0]["effective_priority"] == 500
    assert api.state("t", "?touch=false")["last_read_ts"] is None


def test_it_sets_when_the_topic_was_read(api: Api):
    api.write("t", 1)
    api.diff("t", from_seq=1)
    from apps.topics.keeping import touches

    api.run(touches.write_down())
    topic = Topic.objects.get()
    assert topic.last_read_ts is not None
    assert topic.last_consumed_ts is not None
