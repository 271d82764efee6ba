"""A client of /v0 for sync tests: the whole application runs in one event loop in another thread."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import time_machine

from apps.access.models import ApiKey
from apps.core import asyncdb
from apps.core.asgi import Application
from apps.core.sse import hub
from apps.topics import queries, services
from apps.topics.keeping import touches
from apps.topics.queues import rooms
from apps.topics.routers import forwarder
from apps.topics.watch import pages, streams
from tests.contract.topics.sse import Stream

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from concurrent.futures import Future

JSON = "application/json"
RECORDS = {"records": [{"data": 1}]}


class Api:
    """Calls the application; bodies are JSON unless they are bytes already."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Application) -> None:
        self._loop = loop
        self.app = app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine in the application's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.start(work).result(60)

    def begin(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> Future[httpx.Response]:
        """Send a request and return before it is answered."""
        content = None
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            content = body if isinstance(body, bytes) else msgspec.json.encode(body)
            given.setdefault("content-type", JSON)
        if key is not None:
            given["authorization"] = f"Bearer {key}"
        given = {name: value for name, value in given.items() if value}
        return self.start(self._client.request(method, path, content=content, headers=given))

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.begin(method, path, body, **options).result(60)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.call("PUT", path, body, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.call("POST", path, body, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.call("DELETE", path, **options)

    def key_ids(self) -> list[Any]:
        """Return the ids of all keys."""
        return list(ApiKey.objects.values_list("pk", flat=True))

    def write(self, topic: str, *data: Any, **body: Any) -> httpx.Response:
        """Write one record per argument."""
        return self.post(
            f"/v0/topics/{topic}", {"records": [{"data": one} for one in data], **body}
        )

    def watch(self, topics: Any, **body: Any) -> str:
        """Make a watch session and return the path of its stream."""
        answer = self.post("/v0/watch", {"topics": topics, **body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["stream_url"])

    def follow(self, path: str, **options: Any) -> Stream:
        """Open a stream."""
        return Stream(self, path, **options)

    def state(self, topic: str, query: str = "") -> Any:
        """Return the JSON of a topic's state."""
        answer = self.get(f"/v0/topics/{topic}{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def listing(self, query: str = "", **options: Any) -> Any:
        """Return the JSON of a page of topics."""
        answer = self.get(f"/v0/topics{query}", **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def diff(self, topic: str, **body: Any) -> Any:
        """Read a topic and return the answer's JSON."""
        answer = self.post(f"/v0/topics/{topic}/diff", body)
        assert answer.status_code == 200, answer.text
        return answer.json()


def seqs(page: Any) -> list[int]:
    """Return the seqs of a page of records."""
    return [record["$seq"] for record in page["records"]]


def waits_on(api: Api, topic: str) -> None:
    """Return when somebody has subscribed to a topic."""

    async def subscribed() -> bool:
        return queries.channel(topic) in hub.current()._waiters

    while not api.run(subscribed()):
        pass


@pytest.fixture(scope="session")
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def _app() -> Application:
    return Application()


@pytest.fixture
def api(
    transactional_db: None, _loop: asyncio.AbstractEventLoop, _app: Application
) -> Iterator[Api]:
    services.forget()
    client = Api(_loop, _app)
    yield client

    async def close() -> None:
        await client._client.aclose()
        await rooms.close()
        await streams.close()
        await pages.close()
        await touches.close()
        await forwarder.close()
        await hub.current().close()
        await asyncdb.close()

    client.run(close())


@pytest.fixture
def still() -> Iterator[None]:
    """Let no time pass: a priority decays from the moment of the read."""
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False):
        yield


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that a request was refused so, and return the error's detail."""
    assert answer.headers["content-type"] == JSON
    body = answer.json()
    assert (answer.status_code, body["error"]["code"]) == (status, code), answer.text
    assert list(body) == ["error"]
    assert set(body["error"]) <= {"code", "message", "detail"}
    assert body["error"]["message"]
    return body["error"].get("detail") or {}
