"""GET /executions/{id}/events (pipelines-storage.md §3, §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.core.threads import in_thread
from apps.pipelines import advancing, services
from apps.runs import transitions as run_moves
from apps.runs.models import Run
from tests import aio
from tests.asgi_client import get, opened

if TYPE_CHECKING:
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


def test_an_unknown_execution_is_not_found():
    status, body = aio.run(get("/api/v1/executions/nope/events"))
    assert (status, body["error_code"]) == (404, "not_found")
