"""GET /api/v1/storage/events: what a stream tells, and when it ends (pipelines-storage.md §5)."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
import time_machine
from django.db import transaction

from apps.core import clock, lifespan
from apps.core.sse import relayed
from apps.core.sse.stream import follow_source
from apps.core.threads import in_own_thread
from apps.topics import queries
from apps.topics.keeping import eviction
from apps.topics.models import Topic
from tests import aio
from tests.asgi_client import opened as open_url
from tests.object_client import put
from tests.object_writer import close_spaces, delete, open_space, reopen_space, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.asgi_client import Answer, Frame

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = "/api/v1/storage/events"
NEVER = UUID(int=0xFFFF << 112 | 0x7 << 76 | 0b10 << 62)


@asynccontextmanager
async def stream(*executions: str, headers: Any = None, **query: Any) -> AsyncIterator[Answer]:
    asked = urlencode({"execution_id": executions, **query}, doseq=True)
    async with open_url(f"{EVENTS}?{asked}", **(headers or {})) as answer:
        assert answer.status == 200, await answer.body()
        yield answer


async def told(*executions: str, headers: Any = None, **query: Any) -> list[Frame]:
    """Return what is told of executions that have ended."""
    async with stream(*executions, headers=headers, **query) as answer:
        return await answer.frames()


def names(frames: list[Frame]) -> list[str]:
    return [frame.data["key"].partition("/")[2] for frame in frames]


async def say(function: Any, *args: Any, **kwargs: Any) -> Any:
    return await in_own_thread(function, *args, **kwargs)


def test_it_tells_what_is_written_and_ends_with_the_execution(execution, place):
    write(execution, "s/before")

    async def scene() -> tuple[Any, list[Frame]]:
        async with stream(execution) as answer:
            await say(write, execution, "boost/out/a.MD", "s/b")
            first = await answer.next_frame()
            await say(close_spaces, execution)
            return answer.headers, [first, *await answer.frames()]

    headers, frames = aio.run(scene())
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert [frame.event for frame in frames] == ["storage.object.created"] * 2
    first, second = frames
    assert UUID(first.id).version == 7
    assert first.id == first.data["id"]
    assert first.id < second.id
    assert set(first.data) == {
        "id", "type", "timestamp", "execution_id", "tag", "stage", "path", "key", "extension", "content_type",
        "content_length", "checksum", "etag", "run_id", "correlation_id", "metadata",
    }  # fmt: skip
    assert (first.data["execution_id"], first.data["stage"]) == (execution, "boost")
    assert (first.data["path"], first.data["extension"]) == ("out/a.MD", ".md")


def test_it_begins_with_a_comment_and_ends_with_one_byte_for_byte(execution):
    write(execution, "s/a")
    close_spaces(execution)

    async def scene() -> bytes:
        async with stream(execution, replay="true") as answer:
            return await answer.body()

    body = aio.run(scene())
    assert re.fullmatch(
        rb": storage events\n\nretry: 3000\n\n"
        rb"id: [0-9a-f-]{36}\nevent: storage\.object\.created\ndata: \{[^\n]*\}\n\n"
        rb": end reason=all_terminal\n\n",
        body,
    ), body


def test_the_opening_comment_comes_before_anything_is_written(execution):
    async def scene() -> bytes | None:
        async with stream(execution) as answer:
            return await answer.parts.get()

    assert aio.run(scene()) == b": storage events\n\nretry: 3000\n\n"


def test_an_upload_is_told(execution, place):
    put(f"{execution}/s/a.txt", b"hello", x_meta_author="me")
    close_spaces(execution)
    (frame,) = aio.run(told(execution, replay="true"))
    assert frame.data["content_length"] == 5
    assert frame.data["metadata"] == {"author": "me"}


def test_a_second_write_is_told_again_and_a_deletion_is_not(execution):
    write(execution, "s/a", "s/a")
    delete(execution, ["s/a"])
    close_spaces(execution)
    first, second = aio.run(told(execution, replay="true"))
    assert first.data["key"] == second.data["key"]
    assert first.data["etag"] != second.data["etag"]
    assert first.id < second.id


def test_several_executions_share_a_stream_by_id_and_by_tag():
    one, other, third = open_space(), open_space("nightly"), open_space()

    async def scene() -> list[Frame]:
        async with stream(one, "nightly") as answer:
            for number in range(5):
                await say(write, one, f"s/{number}")
                await say(write, third, f"s/{number}")
                await say(write, other, f"s/{number}")
            await say(close_spaces, one)
            await say(write, other, "s/last")
            await say(close_spaces, other)
            return await answer.frames()

    frames = aio.run(scene())
    assert [frame.data["execution_id"] for frame in frames] == [one, other] * 5 + [other]
    assert [frame.data["tag"] for frame in frames][:2] == [None, "nightly"]
    assert [frame.id for frame in frames] == sorted({frame.id for frame in frames})


def test_an_execution_named_twice_is_one(execution):
    write(execution, "s/a")
    close_spaces(execution)
    assert names(aio.run(told(execution, execution.upper(), replay="true"))) == ["s/a"]


def test_what_eight_write_at_once_is_told_in_the_order_of_ids():
    write(open_space(), "s/first")  # the topic is there
    executions = [open_space() for _ in range(8)]

    def write_and_close(execution: str) -> None:
        write(execution, *(f"s/{number}" for number in range(25)))
        close_spaces(execution)

    async def scene() -> list[Frame]:
        async with stream(*executions) as answer:
            await asyncio.gather(*(say(write_and_close, one) for one in executions))
            return await answer.frames()

    frames = aio.run(scene())
    ids = [frame.id for frame in frames]
    assert ids == sorted(set(ids))
    for execution in executions:
        mine = [frame for frame in frames if frame.data["execution_id"] == execution]
        assert names(mine) == [f"s/{number}" for number in range(25)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"stage": "boost"}, [0, 1, 2, 3]),
        ({"stage": "boost/routines"}, [1, 2, 3]),
        ({"stage": "boost/routines/"}, [1, 2]),
        ({"path": "out/"}, [1, 3, 4]),
        ({"path": "out/b"}, [3, 4]),
        ({"extension": ".md"}, [0, 1]),
        ({"extension": "MD"}, [0, 1]),
        ({"extension": "json, .md"}, [0, 1, 2, 3]),
        ({"extension": ["json", "md"]}, [0, 1, 2, 3]),
        ({"extension": ""}, [0, 1, 2, 3, 4, 5]),
        ({"stage": "boost", "path": "out", "extension": "md"}, [1]),
        ({"stage": "nothing"}, []),
    ],
)
def test_filters_are_added_up(execution, query, expected):
    written = [
        ("boost", "a.md"),
        ("boost/routines", "out/a.MD"),
        ("boost/routines", "b.json"),
        ("boost/routines-old", "out/b.json"),
        ("other", "out/b"),
        ("other", "c.tar.gz"),
    ]
    for stage, path in written:
        write(execution, f"{stage}/{path}", stage=stage)
    close_spaces(execution)
    frames = aio.run(told(execution, replay="true", **query))
    assert names(frames) == ["/".join(written[index]) for index in expected]


# --- the end --------------------------------------------------------------------------------------


async def ending(answer: Answer) -> bytes:
    return b": " + (await answer.body()).rpartition(b": ")[2]


def test_one_that_has_ended_ends_at_once():
    execution = open_space()
    write(execution, "s/a")
    close_spaces(execution)
    assert aio.run(told(execution)) == []


def test_it_ends_when_the_last_of_all_executions_has():
    one, other = open_space(), open_space()

    async def scene() -> list[str]:
        async with stream(one, other) as answer:
            await say(close_spaces, one)
            await say(write, other, "s/a")
            first = await answer.next_frame()
            await say(write, other, "s/b")
            await say(close_spaces, other)
            return names([first, *await answer.frames()])

    assert aio.run(scene()) == ["s/a", "s/b"]


def test_the_last_write_before_the_end_is_told_whatever_comes_between():
    """With Postgres between; the interleavings themselves are raced in integration/core/test_relay.py."""
    write(open_space(), "s/first")  # the topic is there
    executions = [open_space() for _ in range(60)]

    def write_last_and_close(execution: str) -> None:
        write(execution, "s/last")
        close_spaces(execution)

    async def follow(execution: str) -> list[str]:
        async with stream(execution, replay="true") as answer:
            return names(await answer.frames())

    async def scene() -> list[Any]:
        ends = [say(write_last_and_close, one) for one in executions]
        return await asyncio.gather(*ends, *map(follow, executions))

    assert aio.run(scene())[60:] == [["s/last"]] * 60


def test_kept_open_it_goes_on_until_its_time_is_over():
    execution = open_space()
    write(execution, "s/a")
    close_spaces(execution)

    async def scene() -> tuple[list[str], bytes]:
        async with stream(execution, replay="true", keep_open="true", timeout="1") as answer:
            first = await answer.next_frame()
            await say(reopen_space, execution)
            await say(write, execution, "s/b")
            second = await answer.next_frame()
            return names([first, second]), await ending(answer)

    assert aio.run(scene()) == (["s/a", "s/b"], b": end reason=timeout\n\n")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["created s/a", "created s/b"]),
        ({"deletions": "true"}, ["created s/a", "deleted s/a", "created s/b"]),
        ({"deletions": "true", "path": "b"}, ["created s/b"]),
    ],
)
def test_deletions_are_told_to_those_who_ask(execution, query, found):
    write(execution, "s/a")
    delete(execution, ["s/a"])
    write(execution, "s/b")
    close_spaces(execution)
    frames = aio.run(told(execution, replay="true", **query))
    kinds = [frame.event.rpartition(".")[2] for frame in frames]
    assert [f"{kind} {name}" for kind, name in zip(kinds, names(frames), strict=True)] == found
    if len(found) == 3:
        assert frames[1].data["etag"] == frames[0].data["etag"]


def test_its_time_is_over_whatever_the_traffic(execution):
    async def scene() -> tuple[int, bytes]:
        async with stream(execution, timeout="1.25") as answer:
            number = 0
            while not answer.is_complete:
                await say(write, execution, f"s/{number}")
                number += 1
            return number, await ending(answer)

    written, end = aio.run(scene())
    assert written > 1
    assert end == b": end reason=timeout\n\n"


def test_an_execution_that_goes_on_is_followed_again(execution):
    close_spaces(execution)
    reopen_space(execution)

    async def scene() -> list[str]:
        async with stream(execution) as answer:
            await say(write, execution, "s/a")
            first = await answer.next_frame()
            await say(close_spaces, execution)
            return names([first, *await answer.frames()])

    assert aio.run(scene()) == ["s/a"]


def test_it_ends_with_the_process(execution):
    async def scene() -> bytes:
        async with stream(execution) as answer:
            await say(write, execution, "s/a")
            await answer.next_frame()
            lifespan.drain()
            try:
                return await ending(answer)
            finally:
                lifespan.reopen()

    assert aio.run(scene()) == b": end reason=shutdown\n\n"


def test_silence_is_broken_by_a_comment(execution, monkeypatch):
    monkeypatch.setitem(follow_source.__kwdefaults__, "heartbeat", 0.05)

    async def scene() -> list[bytes | None]:
        async with stream(execution) as answer:
            return [await answer.parts.get() for _ in range(3)]

    assert aio.run(scene())[1:] == [b": hb\n\n", b": hb\n\n"]


# --- resuming -------------------------------------------------------------------------------------


def test_it_goes_on_before_inside_and_after_the_gap():
    execution, other = open_space(), open_space()
    for number in range(20):
        write(execution, f"s/{number}")
        write(other, f"s/{number}")
    close_spaces(execution)
    everything = aio.run(told(execution, replay="true"))
    assert names(everything) == [f"s/{number}" for number in range(20)]
    for seen in (0, 7, 18, 19):
        rest = aio.run(told(execution, headers={"last_event_id": everything[seen].id}))
        assert names(rest) == names(everything[seen + 1 :])
    first = UUID(int=UUID(everything[0].id).int - 1)
    assert len(aio.run(told(execution, headers={"last_event_id": str(first)}))) == 20
    assert len(aio.run(told(execution, headers={"last_event_id": str(UUID(int=0))}))) == 20
    assert aio.run(told(execution, headers={"last_event_id": str(NEVER)})) == []


def test_an_id_of_another_execution_is_a_place_as_well():
    execution, other = open_space(), open_space()
    write(execution, "s/a")
    write(other, "s/x")
    write(execution, "s/b")
    close_spaces(execution, other)
    (seen,) = aio.run(told(other, replay="true"))
    assert names(aio.run(told(execution, headers={"last_event_id": seen.id}))) == ["s/b"]


def test_five_hundred_come_back_at_once():
    """As when their web process has died, at one that has had no stream yet."""
    execution = open_space()
    write(execution, *(f"s/{number}" for number in range(12)))

    async def seen() -> str:
        async with stream(execution, replay="true") as answer:
            return (await answer.next_frame()).id

    last = aio.run(seen())

    async def come_back() -> list[str]:
        async with stream(execution, headers={"last_event_id": last}) as answer:
            return names([await answer.next_frame() for _ in range(11)])

    async def scene() -> list[list[str]]:
        return await asyncio.gather(*(come_back() for _ in range(500)))

    assert aio.run(scene()) == [[f"s/{number}" for number in range(1, 12)]] * 500


@pytest.mark.parametrize("given", ["nonsense", "1-4", "", "0190b7a4-aaaa-7bbb"])
def test_what_is_no_uuid_is_as_none(execution, given):
    write(execution, "s/a")

    async def scene() -> list[str]:
        async with stream(execution, headers={"last_event_id": given}) as answer:
            await say(write, execution, "s/b")
            await say(close_spaces, execution)
            return names(await answer.frames())

    assert aio.run(scene()) == ["s/b"]


def test_an_id_that_retention_has_overtaken_goes_on_at_what_is_left(execution):
    write(execution, *(f"s/{number}" for number in range(6)))
    close_spaces(execution)
    everything = aio.run(told(execution, replay="true"))
    log = Topic.objects.filter(name="system.storage.events")
    log.update(cap_records=3)
    with transaction.atomic():
        eviction.evict(log.get().pk)
    rest = aio.run(told(execution, headers={"last_event_id": everything[0].id}))
    assert names(rest) == ["s/3", "s/4", "s/5"]


def test_a_replay_of_the_past_reads_no_more_of_the_log_than_it_lived_through(monkeypatch):
    early, other = open_space(), open_space()
    write(early, "s/a", "s/b")
    write(other, "s/x")
    close_spaces(early)
    later = clock.now() + timedelta(hours=1)
    with time_machine.travel(later, tick=False):
        write(other, *(f"s/{number}" for number in range(40)))
        write(late := open_space(), "s/late")
        close_spaces(late)
    looked_at: list[str] = []
    read = queries.read_after_async

    async def noted(topic: str, after: int, limit: int) -> Any:
        page = await read(topic, after, limit)
        if limit > 1 and page is not None:
            looked_at.extend(record.data for record in page.records)
        return page

    monkeypatch.setattr(queries, "read_after_async", noted)
    monkeypatch.setattr(relayed, "_PER_STEP", 2)
    assert names(aio.run(told(late, replay="true"))) == ["s/late"]
    assert len(looked_at) == 41
    looked_at.clear()
    assert names(aio.run(told(early, replay="true"))) == ["s/a", "s/b"]
    assert len(looked_at) == 4


def test_a_replay_goes_on_with_what_is_written(execution):
    write(execution, *(f"s/{number}" for number in range(3)))

    async def scene() -> list[str]:
        async with stream(execution, replay="true") as answer:
            told = [await answer.next_frame() for _ in range(3)]
            await say(write, execution, "s/3")
            await say(close_spaces, execution)
            return names([*told, *await answer.frames()])

    assert aio.run(scene()) == [f"s/{number}" for number in range(4)]
