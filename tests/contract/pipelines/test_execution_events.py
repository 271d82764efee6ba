"""GET /executions/{id}/events (pipelines-storage.md §3, §5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.core.threads import in_own_thread, in_thread
from apps.pipelines import services, transitions
from apps.pipelines.execution import advancing
from apps.runs import transitions as run_moves
from apps.runs.models import Run
from tests import aio
from tests.asgi_client import get, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from apps.pipelines.models import Execution

pytestmark = pytest.mark.django_db(transaction=True)


def start(tag: str = "t") -> Execution:
    services.create_pipeline(
        body={"id": "p", "name": "p", "steps": [{"name": "a", "command": ["true"]}]},
        caller=ANONYMOUS,
    )
    execution = services.run_pipeline(pipeline_id="p", caller=ANONYMOUS, tag=tag)
    advancing.advance_execution(execution.id)
    return execution


def finish(execution: Execution) -> None:
    with run_moves.batch() as moves:
        run = Run.objects.get(execution_id=execution.id)
        live = run_moves.get_live(moves, run.id)
        run_moves.assign(moves, live, worker_id=None, gpu=None)  # type: ignore[arg-type]
        run_moves.start(moves, live)
        run_moves.complete(moves, live, outputs={})
    advancing.advance_execution(execution.id)


def path(execution: Execution) -> str:
    return f"/api/v1/executions/{execution.id}/events"


def test_it_tells_the_progress_and_ends_with_the_execution():
    execution = start()

    async def scene() -> list[tuple[str, Any]]:
        async with opened(path(execution)) as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            first = await answer.frame()
            assert first is not None
            await in_thread(finish, execution)
            told = [first]
            while (frame := await answer.frame()) is not None:
                told.append(frame)
            return [(frame.event, frame.data["stage"]) for frame in told]

    assert aio.run(scene()) == [
        ("initiated", "a"),
        ("processing", "a"),
        ("completed", "a"),
        ("completed", None),
    ]


def test_it_is_found_by_tag_and_told_again_after_its_end():
    finish(start("nightly"))

    async def scene() -> bytes:
        async with opened("/api/v1/executions/nightly/events") as answer:
            return await answer.body()

    body = aio.run(scene())
    assert body.startswith(b"retry: 2000\n\n")
    assert body.count(b"\nevent: ") + body.startswith(b"event: ") == 4
    assert body.endswith(b": end reason=all_terminal\n\n")


def test_a_reader_goes_on_after_what_it_saw():
    execution = start()
    finish(execution)

    async def read(**headers: str) -> list[Any]:
        async with opened(path(execution), **headers) as answer:
            told = []
            while (frame := await answer.frame()) is not None:
                told.append(frame)
            return told

    everything = aio.run(read())
    rest = aio.run(read(last_event_id=everything[1].id))
    assert [frame.id for frame in rest] == [frame.id for frame in everything[2:]]
    assert len(aio.run(read(last_event_id="nonsense"))) == 4


@pytest.mark.parametrize("named", ["nope", "\0"])
def test_an_unknown_execution_is_not_found(named):
    status, body = aio.run(get(f"/api/v1/executions/{named}/events"))
    assert (status, body["error_code"]) == (404, "not_found")


async def ends(url: str, execution: Execution, *moves: Callable[[Execution], None]) -> bytes:
    """Return how a stream has ended by when the moves are made."""
    async with opened(url) as answer:
        await answer.parts.get()
        for move in moves:
            await in_own_thread(move, execution)
        return b": " + (await answer.body()).rpartition(b": ")[2]


def interrupt(execution: Execution) -> None:
    with transitions.locked(execution.id) as moves:
        transitions.interrupt(moves, error={"message": "a fault of ours"})


def cancel(execution: Execution) -> None:
    services.cancel_execution(named=str(execution.id), caller=ANONYMOUS)
    advancing.advance_execution(execution.id)


@pytest.mark.parametrize("move", [finish, cancel])
def test_its_end_ends_the_stream_of_its_files_too(move):
    execution = start("nightly")
    url = "/api/v1/storage/events?execution_id=nightly"
    assert aio.run(ends(url, execution, move)) == b": end reason=all_terminal\n\n"
    assert aio.run(ends(path(execution), execution)) == b": end reason=all_terminal\n\n"


def test_an_interruption_ends_no_stream():
    execution = start("nightly")
    url = "/api/v1/storage/events?execution_id=nightly&timeout=1"
    assert aio.run(ends(url, execution, interrupt)) == b": end reason=timeout\n\n"


def test_it_ends_when_its_time_is_over():
    execution = start("nightly")
    assert aio.run(ends(path(execution) + "?timeout=1", execution)) == b": end reason=timeout\n\n"


def test_kept_open_it_outlasts_the_execution():
    execution = start("nightly")
    url = path(execution) + "?timeout=1.5&keep_open=true"
    assert aio.run(ends(url, execution, finish)) == b": end reason=timeout\n\n"


@pytest.mark.parametrize(
    "query", ["timeout=0", "timeout=3601", "timeout=1_0", "timeout=%D9%A3", "keep_open=maybe"]
)
def test_a_parameter_that_is_wrong_is_named(query):
    status, body = aio.run(get(f"/api/v1/executions/nope/events?{query}"))
    assert status == 422
    assert body["detail"][0]["loc"] == ["query", query.partition("=")[0]]


def test_many_follow_one_execution_and_each_is_told_all():
    execution = start()

    async def follow() -> list[str]:
        async with opened(path(execution)) as answer:
            return [frame.id for frame in await answer.frames()]

    async def scene() -> list[list[str]]:
        following = [asyncio.create_task(follow()) for _ in range(30)]
        await in_own_thread(finish, execution)
        return await asyncio.gather(*following)

    told = aio.run(scene())
    assert len(told[0]) == 4
    assert told == [told[0]] * 30
