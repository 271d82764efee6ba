"""topics v0 §4 and ⚑5: what is too much is refused at once with 429 and Retry-After, and never queued without bound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from apps.core import held
from tests.contract.topics.conftest import JSON, refused, waits_on
from tests.contract.topics.socket_client import Socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from concurrent.futures import Future

    import httpx

    from tests.contract.topics.conftest import Api

BODY = b'{"records":[{"data":1}]}'


class SlowBody:
    """A request whose body has begun to come, and comes to its end when told to."""

    def __init__(self, api: Api, path: str = "/v0/topics/t", announced: int | None = None) -> None:
        self._api = api
        self._begun, self._told = asyncio.Event(), asyncio.Event()
        headers = {"content-type": JSON}
        if announced is not None:
            headers["content-length"] = str(announced)
        self._answer: Future[httpx.Response] = api.start(
            api._client.post(path, content=self._parts(), headers=headers)
        )
        api.run(self._begun.wait())

    def end(self) -> httpx.Response:
        self._api._loop.call_soon_threadsafe(self._told.set)
        return self._answer.result(60)

    async def _parts(self) -> AsyncIterator[bytes]:
        yield b" " * 80
        self._begun.set()
        await self._told.wait()
        yield BODY


@pytest.fixture(autouse=True)
def _nothing_is_held_for_ever() -> Iterator[None]:
    yield
    assert held.BODIES.total == held.ANSWERS.total == 0


def is_throttled(answer: httpx.Response, **detail: Any) -> None:
    assert refused(answer, 429, "throttled") == detail
    assert answer.headers["retry-after"] == "1"


def test_bodies_that_come_at_once_are_held_within_a_limit(api: Api, settings: Any):
    settings.GYOZA_MAX_HELD_BYTES = 110
    slow = SlowBody(api)
    is_throttled(api.post("/v0/topics/t", BODY + b" " * 20), limit="max_held_bytes", max=110)
    assert api.post("/v0/topics/t", BODY).status_code == 201
    assert slow.end().status_code == 200
    assert api.post("/v0/topics/t", BODY + b" " * 20).status_code == 200


def test_what_is_announced_as_too_much_is_not_read(api: Api, settings: Any):
    settings.GYOZA_MAX_HELD_BYTES = 110
    slow = SlowBody(api)
    read: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        read.append(1)
        yield BODY

    headers = {"content-type": JSON, "content-length": "1000"}
    answer = api.run(api._client.post("/v0/topics/t", content=parts(), headers=headers))
    is_throttled(answer, limit="max_held_bytes", max=110)
    assert read == []
    slow.end()


def test_one_body_alone_may_be_as_large_as_a_body_may_be(api: Api, settings: Any):
    settings.GYOZA_MAX_HELD_BYTES = 10
    assert api.post("/v0/topics/t", BODY).status_code == 201
    assert SlowBody(api).end().status_code == 200


def test_the_control_plane_holds_bodies_within_the_same_limit(api: Api, settings: Any):
    settings.GYOZA_MAX_HELD_BYTES = 110
    slow = SlowBody(api)
    is_throttled(api.post("/runs", b" " * 40), limit="max_held_bytes", max=110)
    slow.end()
    slow = SlowBody(api, "/runs")
    is_throttled(api.post("/v0/topics/t", BODY + b" " * 20), limit="max_held_bytes", max=110)
    slow.end()


def test_a_body_that_stops_coming_is_given_up(api: Api, settings: Any):
    settings.GYOZA_STALLED_SECONDS = 0.01
    slow = SlowBody(api)
    refused(slow._answer.result(60), 408, "request_timeout")


@pytest.mark.parametrize("path", ["/v0/topics/t", "/runs"])
def test_a_body_that_drips_is_given_up(api: Api, settings: Any, path: str):
    settings.GYOZA_STALLED_SECONDS = 0.05
    settings.GYOZA_BODY_BYTES_PER_SECOND = 10**9

    async def drops() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b" "

    answer = api.run(api._client.post(path, content=drops(), headers={"content-type": JSON}))
    detail = refused(answer, 408, "request_timeout")
    assert detail == {"limit": "body_bytes_per_second", "least": 10**9}
    said = answer.json()["error"]["message"]
    assert said == "the body came at less than 1000000000 bytes per second"
    assert answer.headers["connection"] == "close"


def test_so_many_requests_are_under_way_at_once(api: Api, settings: Any, redis: object):
    settings.GYOZA_MAX_INFLIGHT = 1
    api.write("t", 1)
    waiting = api.begin("POST", "/v0/topics/t/diff", {"from_seq": 1, "wait_ms": 30_000})
    waits_on(api, "t")
    is_throttled(api.post("/v0/topics/t/diff", {}), limit="max_inflight", max=1)
    # A client of one plane doesn't shut the other, nor the probes.
    assert api.get("/runs").status_code == 200
    assert api.get("/health").status_code == api.get("/v0/health").status_code == 200
    settings.GYOZA_MAX_INFLIGHT = 2
    api.write("t", 2)
    assert waiting.result(60).status_code == 200
    settings.GYOZA_MAX_INFLIGHT = 1
    assert api.post("/v0/topics/t/diff", {}).status_code == 200


def test_so_many_requests_wait_for_a_thread(api: Api, settings: Any):
    settings.GYOZA_MAX_INFLIGHT = 1
    slow = SlowBody(api, "/runs")
    is_throttled(api.get("/runs"), limit="max_inflight", max=1)
    assert api.post("/v0/topics/t", BODY).status_code == 201
    slow.end()
    assert api.get("/runs").status_code == 200


async def read_slowly(api: Api, path: str, body: bytes, taken: asyncio.Event) -> int:
    """Ask the application itself, taking nothing of the answer's body at first; return the body's length."""
    length = 0
    requests = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return requests.pop()

    async def send(message: Any) -> None:
        nonlocal length
        if message["type"] == "http.response.body":
            await taken.wait()
            length += len(message.get("body", b""))

    headers = [(b"content-type", JSON.encode()), (b"host", b"localhost")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
    await api.app(scope, receive, send)
    return length


def test_long_answers_that_nobody_takes_are_kept_within_a_limit(api: Api, settings: Any):
    settings.GYOZA_MAX_UNSENT_BYTES = 300_000
    api.write("t", "x" * 200_000)
    taken = asyncio.Event()
    slow = api.start(read_slowly(api, "/v0/topics/t/diff", b"{}", taken))
    while not held.ANSWERS.total:
        assert not slow.done()
        api.get("/v0/health")
    refusal = api.post("/v0/topics/t/diff", {})
    is_throttled(refusal, limit="max_unsent_bytes", max=300_000)
    # What is short is no burden.
    assert api.post("/v0/topics/t/diff", {"from_seq": 1}).status_code == 200
    api._loop.call_soon_threadsafe(taken.set)
    assert slow.result(60) > 200_000
    assert api.post("/v0/topics/t/diff", {}).status_code == 200


def test_followers_get_less_at_a_time_while_others_take_nothing(api: Api, settings: Any):
    settings.GYOZA_MAX_UNSENT_BYTES = 300_000
    data = ["x" * 50_000, "y" * 50_000]
    api.write("t", *data)
    burden = held.Held(held.FRAMES)
    burden.note(300_000)
    try:
        with Socket(api) as socket:
            socket.ask("subscribe", topic="t")
            assert [record["data"] for record in socket.hear()["records"]] == data[:1]
            assert [record["data"] for record in socket.hear()["records"]] == data[1:]
            assert socket.hear()["op"] == "caught_up"
        with api.follow(api.watch({"t": {}})) as stream:
            stream.records(data[0])
            burden.let_go()
            stream.records(data[1])
    finally:
        burden.let_go()
    with api.follow(api.watch({"t": {}})) as stream:
        stream.records(*data)
