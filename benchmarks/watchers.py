"""Any number of watch streams in one process, on raw sockets: what a benchmark hears, at the price of a regex."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    Heard = Callable[[int, bytes], None]


class _Stream(asyncio.Protocol):
    def __init__(self, watchers: Watchers, number: int, request: bytes) -> None:
        self._watchers, self._number, self._request = watchers, number, request
        self.seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._watchers.received(self, self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watchers.lost(self._number)


class _Drain(asyncio.BufferedProtocol):
    """Takes what comes and looks at none of it."""

    _buffer = memoryview(bytearray(1 << 20))

    def __init__(self, watchers: Watchers, number: int) -> None:
        self._watchers, self._number = watchers, number

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._watchers.lost(self._number)


class Watchers:
    """So many streams, each of a session of its own; of every `every`th, `heard` gets the bytes as they come.

    The others are only drained, once they have begun: the load generator shall not be what is measured.
    """

    def __init__(
        self, url: str, topics: Any, count: int, heard: Heard, *, every: int = 1, **body: Any
    ) -> None:
        self._every = every
        self._url = url
        self._body = {"topics": topics, **body}
        self._count = count
        self._heard = heard
        self._streams: list[_Stream] = []
        self._waiting_for: bytes | None = None
        self._arrived: set[int] = set()
        self._all_arrived = asyncio.Event()
        self._is_closing = False
        self.frames = 0
        self.errors: list[str] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        parts = urlsplit(self._url)
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(base_url=self._url, limits=limits, timeout=60) as client:
            gate = asyncio.Semaphore(16)

            async def open_one(number: int) -> None:
                async with gate:
                    answer = await client.post("/v0/watch", json=self._body)
                    answer.raise_for_status()
                    request = (
                        f"GET {answer.json()['stream_url']} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                        "Accept: text/event-stream\r\n\r\n"
                    ).encode()
                    stream = _Stream(self, number, request)
                    await loop.create_connection(
                        lambda: stream, parts.hostname or "", parts.port or 80
                    )
                    self._streams.append(stream)

            await asyncio.gather(*(open_one(number) for number in range(self._count)))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        for stream in self._streams:
            stream.transport.abort()

    async def until_all_have(self, words: bytes, seconds: float = 120) -> None:
        """Return when every stream has received these bytes, as of its beginning."""
        self._waiting_for = words
        for stream in self._streams:
            self._look_at(stream, stream._number)
        async with asyncio.timeout(seconds):
            await self._all_arrived.wait()

    def received(self, stream: _Stream, number: int, data: bytes) -> None:
        """Take what has come."""
        if number not in self._arrived:
            stream.seen += data
            if stream.seen[:12] not in (b"HTTP/1.1 200", b"HTTP/1.1 200"[: len(stream.seen)]):
                self.errors.append(stream.seen[:300].decode("utf-8", "replace"))
            self._look_at(stream, number)
        self.frames += data.count(b"event: record")
        self._heard(number, data)

    def lost(self, number: int) -> None:
        """Note a stream that has ended."""
        if not self._is_closing:
            self.errors.append(f"stream {number} has ended")

    def _look_at(self, stream: _Stream, number: int) -> None:
        if self._waiting_for is not None and self._waiting_for in stream.seen:
            stream.seen = b""
            self._arrived.add(number)
            if number % self._every:
                stream.transport.set_protocol(_Drain(self, number))
            if len(self._arrived) == self._count:
                self._all_arrived.set()


def raise_file_limit() -> int:
    """Allow this process and its children as many open files as the system lets them have; return how many."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
