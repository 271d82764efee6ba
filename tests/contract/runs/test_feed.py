"""runs.md §3: GET /events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from apps.core import lifespan
from apps.core.threads import in_thread
from apps.runs import transitions
from apps.runs.models import RunEvent
from apps.runs.states import EventType
from apps.topics.services import NewEvent, append_events
from gyoza_site.asgi import application
from tests import aio
from tests.asgi_client import get
from tests.cast import make_key
from tests.factories import make_run

if TYPE_CHECKING:
    from apps.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)


def note(run: Run, *messages: str) -> None:
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        for message in messages:
            moves.note(live, EventType.INFO, message, {"n": 1})


def publish(topic: str, data: str, **over: Any) -> None:
    with transaction.atomic():
        append_events([NewEvent(topic=topic, data=data, **over)])


def feed(query: str, **over: Any) -> tuple[int, Any]:
    return aio.run(get(f"/events?{query}", **over))


def test_it_is_what_runs_published_oldest_first():
    run = make_run(topic="batch", attributes={"a": 1})
    note(run, "one", "two")
    status, page = feed("topic=batch")
    assert status == 200
    assert list(page) == ["events", "next_cursor", "has_more"]
    first, second = page["events"]
    stored = RunEvent.objects.order_by("number").first()
    assert list(first) == ["cursor", "run_id", "attempt", "type", "msg", "t", "state", "payload"]
    assert (first["run_id"], first["attempt"], first["state"]) == (str(run.id), 1, "PENDING")
    assert (first["type"], first["msg"], second["msg"]) == ("INFO", "one", "two")
    assert first["payload"] == {"a": 1, "n": 1}
    assert first["t"].endswith("Z")
    assert stored is not None
    assert (page["next_cursor"], page["has_more"]) == (second["cursor"], False)


def test_a_reader_that_follows_the_cursor_sees_each_event_once():
    run = make_run(topic="batch")
    note(run, *map(str, range(25)))
    seen, cursor, more = [], "0", True
    while more:
        _, page = feed(f"topic=batch&limit=10&after={cursor}")
        seen += [event["msg"] for event in page["events"]]
        cursor, more = page["next_cursor"], page["has_more"]
    assert seen == [str(number) for number in range(25)]


@pytest.mark.parametrize(("query", "cursor"), [("", "0"), ("&after=0", "0"), ("&after=007", "007")])
def test_an_unknown_topic_is_an_empty_page_that_echoes_the_cursor(query, cursor):
    expected = {"events": [], "next_cursor": cursor, "has_more": False}
    if cursor == "007":  # beyond the head of a topic that is not there: nothing was ever removed
        assert feed(f"topic=nothing{query}")[1]["events"] == []
    else:
        assert feed(f"topic=nothing{query}") == (200, expected)


def test_the_end_of_a_topic_echoes_the_cursor():
    note(make_run(topic="batch"), "one")
    cursor = feed("topic=batch")[1]["next_cursor"]
    assert feed(f"topic=batch&after={cursor}")[1] == {
        "events": [],
        "next_cursor": cursor,
        "has_more": False,
    }


def test_a_record_of_anybody_else_is_a_message():
    publish("batch", '{"b":1.0,"a":[]}', tag="t", meta='{"m":1}')
    (event,) = feed("topic=batch")[1]["events"]
    assert (event["run_id"], event["attempt"], event["type"]) == (None, None, "MESSAGE")
    assert json.dumps(event["payload"]["data"]) == '{"b": 1.0, "a": []}'
    assert (event["payload"]["tag"], event["payload"]["meta"]) == ("t", {"m": 1})


def test_what_was_removed_unseen_is_told():
    note(make_run(topic="batch"), "one")
    _, page = feed("topic=batch&after=50")
    assert page["gap"]["reason"] == "recreated"
    assert [event["msg"] for event in page["events"]] == ["one"]


def test_a_long_poll_is_woken_by_the_commit():
    run = make_run(topic="batch")

    async def scene() -> tuple[int, Any]:
        waiting = asyncio.create_task(get("/events?topic=batch&wait=30"))
        await asyncio.sleep(0)
        await in_thread(note, run, "news")
        return await waiting

    _, page = aio.run(scene())
    assert [event["msg"] for event in page["events"]] == ["news"]


def test_a_long_poll_is_answered_when_the_process_is_told_to_end(monkeypatch):
    monkeypatch.setattr(lifespan, "_draining", False)

    async def scene() -> tuple[int, Any]:
        waiting = asyncio.create_task(get("/events?topic=batch&wait=30"))
        await asyncio.sleep(0)
        lifespan.drain()
        return await waiting

    assert aio.run(scene()) == (200, {"events": [], "next_cursor": "0", "has_more": False})
    # And one that comes now does not begin to wait.
    assert feed("topic=batch&wait=30")[1]["events"] == []


def test_a_rolled_back_move_is_not_in_the_feed():
    run = make_run(topic="batch")
    with transaction.atomic():
        note(run, "never")
        transaction.set_rollback(True)
    note(run, "ever")
    assert [event["msg"] for event in feed("topic=batch")[1]["events"]] == ["ever"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "topic"),
        ("topic=", "topic"),
        ("topic=a&limit=0", "limit"),
        ("topic=a&limit=501", "limit"),
        ("topic=a&limit=x", "limit"),
        ("topic=a&after=x", "after"),
        ("topic=a&after=-1", "after"),
        ("topic=a&after=99999999999999999999", "after"),
        ("topic=a&wait=31", "wait"),
        ("topic=a&wait=-1", "wait"),
        ("topic=a%00", "topic"),
    ],
)
def test_it_refuses(query, field):
    status, body = feed(query)
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert field in [error["field"] for error in body["error"]["detail"]["errors"]]


def test_a_reader_may_and_a_stranger_may_not():
    reader, stranger = make_key("reader", "read", "team."), make_key("stranger", "read", "other.")
    assert feed("topic=team.a", key=reader)[0] == 200
    assert feed("topic=team.a", key=stranger)[0] == 404
    assert feed("topic=team.a", key=make_key("writer", "write"))[0] == 403
    assert feed("topic=team.a")[0] == 401


def test_a_long_poll_ends_with_its_client():
    """Else it would count as a request under way for as long as it was to wait."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/events",
        "raw_path": b"/events",
        "query_string": b"topic=nothing&wait=30",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b""}]
    answers: list[Any] = []

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        answers.append(message)

    aio.run(application(scope, receive, send))
    assert answers == []
