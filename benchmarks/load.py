"""An HTTP client that costs almost nothing, so that a benchmark measures the server: raw sockets, one request each."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable


class Load(NamedTuple):
    """What a run of requests took."""

    requests: int
    seconds: float
    latencies_ms: list[float]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        """Return the latency that this share of the requests stayed within."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def post(path: str, body: bytes, host: str = "127.0.0.1") -> bytes:
    """Return the bytes of a POST of JSON."""
    return (
        b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), host.encode(), len(body), body)
    )


class _Client(asyncio.Protocol):
    """Sends its next request as soon as it has the whole answer to the last one."""

    def __init__(self, following: Callable[[], bytes | None], done: asyncio.Future[None]) -> None:
        self._following, self._done = following, done
        self._head = b""
        self._missing = 0
        self._sent_at = 0.0
        self.latencies_ms: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 2"):
                if not self._done.done():
                    self._done.set_exception(RuntimeError(self._head[:500].decode()))
                return
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
            self._missing = length - len(body)
            self._head = b""
        if self._missing <= 0:
            self._missing = 0
            self.latencies_ms.append((time.perf_counter() - self._sent_at) * 1000)
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server hung up"))

    def _send(self) -> None:
        request = self._following()
        if request is None:
            if not self._done.done():
                self._done.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def _itself(client: _Client) -> _Client:
    return client


async def run(url: str, following: Callable[[], bytes | None], *, connections: int) -> Load:
    """Send requests over so many connections until `following` returns None."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    address = parts.hostname or "127.0.0.1"
    clients, ends = [], []
    started = time.perf_counter()
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        client = _Client(following, done)
        await loop.create_connection(partial(_itself, client), address, parts.port or 80)
        clients.append(client)
        ends.append(done)
    await asyncio.gather(*ends)
    seconds = time.perf_counter() - started
    for client in clients:
        client._transport.abort()
    latencies = [latency for client in clients for latency in client.latencies_ms]
    return Load(len(latencies), seconds, latencies)


def for_seconds(seconds: float, request: Callable[[], bytes]) -> Callable[[], bytes | None]:
    """Return a source of requests that dries up after a while."""
    until = time.perf_counter() + seconds
    return lambda: request() if time.perf_counter() < until else None
