"""runs.md §2: GET /runs/{id}/logs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from apps.core import asyncdb
from apps.core.threads import in_thread
from apps.runs import queries, transitions
from apps.runs.live import LogPiece
from apps.runs.models import LogChunk
from apps.runs.states import RunState
from tests import aio
from tests.asgi_client import Frame, get, opened
from tests.asserts import assert_runs_nowhere
from tests.cast import make_key
from tests.factories import make_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from apps.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)


def write(run: Run, start: int, content: bytes, attempt: int = 1) -> None:
    LogChunk.objects.create(run=run, attempt=attempt, start=start, content=content)


def text_of(url: str, **over: Any) -> bytes:
    async def scene() -> bytes:
        async with opened(url, **over) as answer:
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert_runs_nowhere(answer.headers)
            return await answer.body()

    return aio.run(scene())


def followed(url: str, **over: Any) -> tuple[int, list[Frame]]:
    async def scene() -> tuple[int, list[Frame]]:
        async with opened(url, **over) as answer:
            return answer.status, await answer.frames()

    return aio.run(scene())


def test_it_is_the_bytes_of_the_op():
    run = make_run(RunState.RUNNING)
    for index in range(40):
        write(run, index * 3, b"a\xff\n")
    path = f"/runs/{run.id}/logs"
    assert text_of(path) == b"a\xff\n" * 40
    assert text_of(f"{path}?after=118") == b"\xff\n"
    assert text_of(f"{path}?after=500") == b""


def test_every_attempt_has_its_own():
    run = make_run(RunState.RUNNING, current_attempt=2)
    write(run, 0, b"one")
    write(run, 0, b"two", attempt=2)
    path = f"/runs/{run.id}/logs"
    assert (text_of(path), text_of(f"{path}?attempt=1")) == (b"two", b"one")
    assert aio.run(get(f"{path}?attempt=3"))[0] == 404


def test_pieces_that_overlap_are_joined():
    run = make_run(RunState.RUNNING)
    write(run, 0, b"abcd")
    write(run, 2, b"cdef")
    write(run, 3, b"d")
    assert text_of(f"/runs/{run.id}/logs") == b"abcdef"


def test_followed_it_comes_as_it_is_written_and_ends_with_the_attempt():
    run = make_run(RunState.RUNNING)
    write(run, 0, b"one\n")

    def say(content, start, *, ends=False):
        with transitions.batch() as moves:
            live = transitions.get_live(moves, run.id)
            moves.append_log(LogPiece(run.id, 1, start, content))
            if ends:
                transitions.complete(moves, live, outputs={})

    async def scene() -> list[Frame]:
        async with opened(f"/runs/{run.id}/logs?follow=true") as answer:
            seen = [await answer.next_frame()]
            await in_thread(say, b"two\n", 4)
            seen.append(await answer.next_frame())
            await in_thread(say, b"three", 8, ends=True)
            return seen + await answer.frames()

    frames = aio.run(scene())
    assert [(frame.event, frame.id) for frame in frames] == [
        ("log", "4"), ("log", "8"), ("log", "13"), ("end", ""),
    ]  # fmt: skip
    assert "".join(frame.data["text"] for frame in frames[:-1]) == "one\ntwo\nthree"
    assert frames[-1].data == {"attempt": 1, "state": "COMPLETED"}


def test_a_character_is_never_cut():
    run = make_run(RunState.RUNNING)
    write(run, 0, "ä".encode()[:1])

    def finish():
        with transitions.batch() as moves:
            live = transitions.get_live(moves, run.id)
            moves.append_log(LogPiece(run.id, 1, 1, "ä".encode()[1:] + b"\xe2\x82"))
            transitions.complete(moves, live, outputs={})

    async def scene() -> list[Frame]:
        async with opened(f"/runs/{run.id}/logs?follow=true") as answer:
            await in_thread(finish)
            return await answer.frames()

    log, end = aio.run(scene())
    assert (log.data["text"], log.id, end.event) == ("ä�", "4", "end")


def test_it_is_resumed_by_the_byte():
    run = make_run(RunState.COMPLETED)
    write(run, 0, b"0123456789")
    path = f"/runs/{run.id}/logs?follow=true"
    status, frames = followed(path, last_event_id="4")
    assert (status, frames[0].data["text"], frames[0].id) == (200, "456789", "10")
    assert followed(path, last_event_id="10") == (204, [])
    assert aio.run(get(path, last_event_id="x"))[0] == 400


def test_a_long_log_is_read_in_parts():
    run = make_run(RunState.FAILED)
    for index in range(100):
        write(run, index * 10, b"123456789\n")
    _, frames = followed(f"/runs/{run.id}/logs?follow=true")
    assert "".join(frame.data["text"] for frame in frames[:-1]) == "123456789\n" * 100
    assert frames[-1].event == "end"


@pytest.fixture
def away_after_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres, which answers one read of a log and no further one."""
    lend, left = asyncdb.connection, [1]

    @asynccontextmanager
    async def connection() -> AsyncIterator[asyncdb.Connection]:
        if not left:
            raise psycopg.OperationalError("couldn't get a connection after 5.00 sec")
        left.pop()
        async with lend() as lent:
            yield lent

    monkeypatch.setattr(asyncdb, "connection", connection)


@pytest.mark.usefixtures("away_after_a_part")
def test_a_log_that_is_cut_off_is_not_ended_in_order():
    run = make_run(RunState.COMPLETED)
    for index in range(2 * queries.LOG_PIECES):
        write(run, index, b"x")

    async def scene() -> tuple[bytes, bool]:
        async with opened(f"/runs/{run.id}/logs") as answer:
            return await answer.body(), answer.is_complete

    assert aio.run(scene()) == (b"x" * queries.LOG_PIECES, False)


@pytest.mark.usefixtures("away_after_a_part")
def test_followed_a_log_that_is_cut_off_says_so():
    run = make_run(RunState.COMPLETED)
    for index in range(2 * queries.LOG_PIECES):
        write(run, index, b"x")
    _, (log, error) = followed(f"/runs/{run.id}/logs?follow=true")
    assert (log.id, log.data["text"]) == (str(queries.LOG_PIECES), "x" * queries.LOG_PIECES)
    assert (error.event, error.id) == ("error", "")
    assert error.data["error"]["code"] == "unavailable"


def test_who_may_look():
    run = make_run(op_definition="team.op")
    path = f"/runs/{run.id}/logs"
    assert text_of(path, key=make_key("reader", "read", "team.")) == b""
    assert aio.run(get(path, key=make_key("stranger", "read", "other.")))[0] == 404
    assert aio.run(get(path))[0] == 401


@pytest.mark.parametrize("given", ["x", "-1", str(2**63), "9" * 19, "9" * 5000])
def test_an_id_of_something_else_is_refused(given):
    run = make_run(RunState.COMPLETED)
    status, _ = aio.run(get(f"/runs/{run.id}/logs?follow=true", last_event_id=given))
    assert status == 400


def test_a_big_log_is_read_in_small_parts():
    run = make_run(RunState.COMPLETED)
    big, small = b"a" * 300_000, b"b" * 10
    starts = [0, 300_000, 600_000, 600_010, 600_020]
    for start, piece in zip(starts, [big, big, small, small, small], strict=True):
        write(run, start, piece)

    async def sizes() -> list[int]:
        found, after = [], 0
        while (part := await queries.read_log_after(run.id, 1, after)).has_more or part.content:
            found.append(len(part.content))
            after = part.end
        return found

    assert aio.run(sizes()) == [300_000, 300_000, 30]
    status, frames = followed(f"/runs/{run.id}/logs?follow=true")
    assert status == 200
    assert "".join(frame.data["text"] for frame in frames[:-1]) == (big * 2 + small * 3).decode()
    assert text_of(f"/runs/{run.id}/logs") == big * 2 + small * 3
