"""`manage.py topics`: create, list, tail, publish, trim."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.core.management.base import CommandError

from apps.access.models import AuditEntry
from apps.topics.models import Event, Topic

pytestmark = pytest.mark.django_db(transaction=True)


def topics(*arguments: str) -> str:
    out = io.StringIO()
    call_command("topics", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def lines(*arguments: str) -> list[Any]:
    return [json.loads(line) for line in topics(*arguments, "--json").splitlines()]


def test_create_takes_the_settings_of_the_api():
    assert (
        topics("create", "q", "type=queue", "ttl_ms=900000", "durability=fsync") == "Created q.\n"
    )
    topic = Topic.objects.get()
    assert (topic.kind, topic.ttl_ms, topic.durability) == ("queue", 900_000, "fsync")
    assert AuditEntry.objects.get().actor == "command line"


def test_create_replaces_only_when_told_to():
    topics("create", "t", "ttl_ms=5")
    with pytest.raises(CommandError, match="there is a topic t"):
        topics("create", "t")
    assert Topic.objects.get().ttl_ms == 5
    assert lines("create", "t", "--replace") == [{"topic": "t", "created": False}]
    assert Topic.objects.get().ttl_ms == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "no name"),
        ("create", "t", "ttl_ms=-1"),
        ("create", "t", "ttl_ms=soon"),
        ("create", "t", "ttl=5"),
        ("create", "t", "ttl_ms"),
        ("tail", "absent"),
        ("publish", "t", "no json"),
        ("publish", "no name", "1"),
        ("publish", "t", "1", "--tag", "x" * 257),
        ("trim", "t"),
        ("trim", "absent", "--before", "1"),
        ("trim", "t", "--before", "-1"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused_and_nothing_is_made(arguments: tuple[str, ...]):
    with pytest.raises(CommandError):
        topics(*arguments)
    assert not Topic.objects.exists()


def test_list_shows_what_is_live():
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False) as clock:
        topics("create", "a.old", "ttl_ms=1000")
        topics("publish", "a.old", "1")
        topics("publish", "a.new", "1", "22")
        topics("create", "b")
        clock.shift(2)
        assert topics("list") == (
            "a.new  1…2  2 records, 3 bytes\na.old  2…1  0 records, 0 bytes\nb  1…0  0 records, 0 bytes\n"
        )
    assert [row["topic"] for row in lines("list", "a.")] == ["a.new", "a.old"]


def test_publish_takes_arguments_or_lines(monkeypatch: pytest.MonkeyPatch):
    assert topics("publish", "t", "1", '{"b": 2,"a":1}', "--tag", "x", "--node", "me") == "t  1…2\n"
    given = io.TextIOWrapper(io.BytesIO(b'"three"\n\n 4 \n'))
    monkeypatch.setattr("sys.stdin", given)
    assert lines("publish", "t") == [{"topic": "t", "first_seq": 3, "last_seq": 4}]
    stored = Event.objects.order_by("seq").values_list("data", "tag", "node")
    assert list(stored) == [
        ("1", "x", "me"),
        ('{"b": 2,"a":1}', "x", "me"),
        ('"three"', None, None),
        ("4", None, None),
    ]


def test_publish_is_refused_like_any_write():
    topics("create", "t", "discard=reject", "cap_records=1")
    topics("publish", "t", "1")
    with pytest.raises(CommandError, match="no room"):
        topics("publish", "t", "2")


def test_tail_shows_the_end_and_what_is_lost():
    topics("create", "t", "cap_records=3")
    topics("publish", "t", "1", "2", "3", "4", "5", "--tag", "x")
    assert [line["$seq"] for line in lines("tail", "t", "-n", "2")] == [4, 5]
    shown = lines("tail", "t", "-n", "1")[0]
    assert list(shown) == ["$seq", "$ts", "$tag", "data"]
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False):
        topics("publish", "u", '{"a":1}')
        assert topics("tail", "u") == '1  2030-01-01T00:00:00.000000Z  -  -  {"a":1}\n'
    assert topics("tail", "t", "-n", "9").startswith("1…2 are lost: cap\n3  ")


def test_tail_shows_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("apps.topics.management.commands.topics._PAGE", 2)
    topics("publish", "t", *map(str, range(7)))
    assert [line["data"] for line in lines("tail", "t", "-n", "5")] == [2, 3, 4, 5, 6]


def test_trim_deletes_by_seq_and_tag():
    topics("publish", "t", "1", "2", "--tag", "a/1")
    topics("publish", "t", "3", "4", "--tag", "b")
    assert topics("trim", "t", "--before", "2") == "Deleted 1 records of t.\n"
    assert lines("trim", "t", "--match", "a*") == [{"topic": "t", "deleted": 1, "earliest_seq": 3}]
    assert AuditEntry.objects.filter(action="topic.delete_records").count() == 2
