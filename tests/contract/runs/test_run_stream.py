"""runs.md §2: GET /runs/{id}/stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.access.services import issue_run_token
from apps.core.threads import in_thread
from apps.runs import transitions
from apps.runs.models import Worker
from apps.runs.services import submission
from apps.runs.services.submission import RunSpec
from apps.runs.states import EventType
from tests import aio
from tests.asgi_client import Answer, Frame, get, opened
from tests.cast import make_key
from tests.factories import make_run, make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from apps.runs.live import Live
    from apps.runs.models import Run
    from apps.runs.transitions import Batch

    Verb = Callable[[Batch, Live], None]

pytestmark = pytest.mark.django_db(transaction=True)


def move(run: Run, *verbs: Verb) -> None:
    with transitions.batch() as moves:
        live = transitions.get_live(moves, run.id)
        for verb in verbs:
            verb(moves, live)


def assign(moves: Batch, live: Live) -> None:
    transitions.assign(
        moves, live, worker_id=(Worker.objects.first() or make_worker()).id, gpu=None
    )


def info(moves: Batch, live: Live) -> None:
    moves.note(live, EventType.INFO, "line\nbreak")


def complete(moves: Batch, live: Live) -> None:
    transitions.complete(moves, live, outputs={"n": 1})


def fail(moves: Batch, live: Live) -> None:
    transitions.fail(moves, live, error="broken")


def reopen(moves: Batch, live: Live) -> None:
    transitions.reopen(moves, live, reason="again")


def cancel(moves: Batch, live: Live) -> None:
    transitions.cancel(moves, live, reason="")


def frames_of(url: str, **over: Any) -> tuple[int, list[Frame]]:
    async def scene() -> tuple[int, list[Frame]]:
        async with opened(url, **over) as answer:
            return answer.status, await answer.frames()

    return aio.run(scene())


def test_first_the_run_then_each_event_then_the_end():
    run = make_run()
    move(run, assign, transitions.start, info, complete)
    status, frames = frames_of(f"/runs/{run.id}/stream")
    assert status == 200
    snapshot, *events = frames
    assert (snapshot.event, snapshot.id, snapshot.data["state"]) == ("snapshot", "", "COMPLETED")
    assert [frame.id for frame in events] == ["1-0", "1-1", "1-2", "1-3"]
    assert [frame.data["type"] for frame in events] == ["ASSIGNED", "STARTED", "INFO", "COMPLETED"]
    assert events[2].data["msg"] == "line\nbreak"
    assert list(events[0].data) == [
        "run_id", "attempt", "id", "t", "type", "msg", "state", "payload",
    ]  # fmt: skip


def test_events_come_as_they_happen():
    run = make_run()

    async def scene() -> list[Frame]:
        async with opened(f"/runs/{run.id}/stream") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            seen = [await answer.next_frame()]
            for verbs in ([assign], [transitions.start], [info], [complete]):
                await in_thread(move, run, *verbs)
                seen.append(await answer.next_frame())
            assert await answer.frame() is None
            return seen

    states = [frame.data["state"] for frame in aio.run(scene())]
    assert states == ["PENDING", "ASSIGNED", "RUNNING", "RUNNING", "COMPLETED"]


def test_it_is_resumed_where_it_was_left_across_attempts():
    run = make_run()
    move(run, assign, transitions.start, fail)
    move(run, reopen, assign, transitions.start, complete)
    _, frames = frames_of(f"/runs/{run.id}/stream", last_event_id="1-1")
    assert [frame.id for frame in frames] == ["1-2", "2-0", "2-1", "2-2", "2-3"]
    assert frames_of(f"/runs/{run.id}/stream?after=2-2")[1][0].id == "2-3"
    fresh = frames_of(f"/runs/{run.id}/stream")[1]
    assert [frame.id for frame in fresh] == ["", "2-0", "2-1", "2-2", "2-3"]


def test_a_browser_that_has_seen_the_end_is_told_not_to_come_back():
    run = make_run()
    move(run, assign, transitions.start, complete)
    assert frames_of(f"/runs/{run.id}/stream", last_event_id="1-2") == (204, [])


def test_a_snapshot_and_the_events_after_it_are_a_fresh_snapshot():
    run = submission.create_runs(requests=[RunSpec(command=["true"])], owner=ANONYMOUS.owner)[0]

    async def scene() -> tuple[str, str]:
        async with opened(f"/runs/{run.id}/stream") as answer:
            state = (await answer.next_frame()).data
            await in_thread(move, run, assign, transitions.start, complete)
            for frame in await answer.frames():
                state["state"] = frame.data["state"]
            _, fresh = await get(f"/runs/{run.id}/events?attempt=1")
            return state["state"], fresh["data"][-1]["state"]

    assert aio.run(scene()) == ("COMPLETED", "COMPLETED")


def test_an_answer_without_content_has_no_content_type():
    run = make_run()
    move(run, cancel)

    async def scene() -> Answer:
        async with opened(f"/runs/{run.id}/stream", last_event_id="9-9") as answer:
            return answer

    answer = aio.run(scene())
    assert answer.status == 204
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(("header", "query"), [("1", ""), ("x-1", ""), ("", "?after=1")])
def test_a_cursor_of_something_else_is_refused(header, query):
    run = make_run()
    status, _ = aio.run(get(f"/runs/{run.id}/stream{query}", last_event_id=header))
    assert status == 400


def test_who_may_look():
    run, other = make_run(op_definition="team.op"), make_run(op_definition="team.op")
    for one in (run, other):
        move(one, cancel)
    reader, stranger = make_key("reader", "read", "team."), make_key("stranger", "read", "other.")
    path = f"/runs/{run.id}/stream"
    assert frames_of(path, key=reader)[0] == 200
    assert frames_of(f"{path}?token={reader}")[0] == 200
    assert aio.run(get(path, key=stranger))[0] == 404
    assert aio.run(get(path))[0] == 401
    token = issue_run_token(run.id, 1)
    assert aio.run(get(f"/runs/{other.id}/stream", key=token))[0] == 404
    # The token has ended with the run.
    assert aio.run(get(path, key=token))[0] == 401
