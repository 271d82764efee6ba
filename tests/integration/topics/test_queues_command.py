"""`manage.py queues`: what an operator does in a terminal."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.access.models import AuditEntry
from apps.topics import services
from apps.topics.config import TopicConfig
from apps.topics.queues import passes
from apps.topics.queues.orders import Claim, Claimed, Nack
from apps.topics.services import NewEvent, append_events
from tests import aio
from tests.integration.topics.queue_state import assert_sound

pytestmark = pytest.mark.django_db(transaction=True)


def queues(*arguments: str) -> str:
    out = StringIO()
    call_command("queues", *arguments, stdout=out)
    return out.getvalue()


def make_queue(name: str = "q", jobs: int = 3, **config: Any) -> None:
    wanted = TopicConfig(kind="queue", **config)
    services.configure_topic(topic=name, wanted=wanted, caller="test")
    append_events([NewEvent(name, f'{{"n":{n}}}') for n in range(1, jobs + 1)])


def claim(most: int, *, node: bytes = b"w", name: str = "q") -> list[int]:
    order = Claim(node, most)
    outcomes, _ = aio.run(passes.carry_out(name, [order]))
    claimed = outcomes[order]
    assert isinstance(claimed, Claimed)
    return [job.seq for job in claimed.jobs]


def nack(*seqs: int, delay_ms: int = 0) -> None:
    aio.run(passes.carry_out("q", [Nack(b"w", list(seqs), [0] * len(seqs), delay_ms)]))


def test_list_shows_depth_and_age():
    make_queue("a.q", 2)
    make_queue("b.q", 0)
    services.configure_topic(topic="a.log", wanted=TopicConfig(), caller="test")
    claim(1, name="a.q")
    assert "a.q  1 ready, 1 in flight, 0 delayed, 0 dead-lettered, the oldest" in queues("list")
    assert "b.q  0 ready" in queues("list")
    assert "a.log" not in queues("list")
    [row] = [json.loads(line) for line in queues("list", "a.", "--json").splitlines()]
    assert (row["queue"], row["ready"], row["in_flight"]) == ("a.q", 1, 1)


def test_peek_shows_jobs_and_touches_none():
    make_queue(jobs=4)
    claim(2)
    nack(2, delay_ms=60_000)
    lines = [json.loads(line) for line in queues("peek", "q", "--json", "-n", "3").splitlines()]
    assert [(job["seq"], job["state"], job["node"], job["deliveries"]) for job in lines] == [
        (1, "leased", "w", 1),
        (2, "delayed", None, 1),
        (3, "ready", None, 0),
    ]
    assert lines[0]["data"] == {"n": 1}
    assert "1  leased by w until " in queues("peek", "q")
    assert_sound("q")


def test_pause_and_resume_are_told_in_the_list_and_the_trail():
    make_queue()
    queues("pause", "q")
    queues("pause", "q")
    assert "PAUSED" in queues("list")
    assert claim(9) == []
    queues("resume", "q")
    assert claim(9) == [1, 2, 3]
    assert list(
        AuditEntry.objects.filter(action__startswith="queue.")
        .order_by("id")
        .values_list("action", flat=True)
    ) == ["queue.pause", "queue.resume"]


def test_release_gives_back_what_a_node_holds_or_everything():
    make_queue(jobs=5)
    claim(2, node=b"a")
    claim(2, node=b"b")
    assert queues("release", "q", "--node", "a") == "Gave back 2 jobs.\n"
    assert_sound("q")
    assert claim(9, node=b"c") == [1, 2, 5]
    assert json.loads(queues("release", "q", "--json"))["released"] == 5
    assert queues("release", "q") == "Gave back 0 jobs.\n"
    assert_sound("q")
    assert claim(9) == [1, 2, 3, 4, 5]


def test_redrive_brings_all_dead_letters_back_or_some():
    make_queue(jobs=1500, max_deliveries=1, dead_letter="dead")
    for start in (1, 1001):
        seqs = claim(1000)
        assert seqs[0] == start
        nack(*seqs)
    assert claim(1) == []
    assert "1  was 1, delivered 1 times" in queues("dead", "q", "-n", "1")
    assert queues("redrive", "q", "2", "7") == "Moved 2 jobs back into q.\n"
    assert queues("redrive", "q") == "Moved 1498 jobs back into q.\n"
    assert len(claim(1000)) == 1000
    assert_sound("q")


def test_what_is_no_queue_is_an_error_of_the_command():
    services.configure_topic(topic="log", wanted=TopicConfig(), caller="test")
    for verb in ("peek", "dead", "redrive", "release", "pause", "resume"):
        with pytest.raises(CommandError, match='"log" is a log'):
            queues(verb, "log")
        with pytest.raises(CommandError, match="no topic named"):
            queues(verb, "none")
