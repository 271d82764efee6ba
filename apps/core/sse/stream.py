"""The one loop of every stream: read from a cursor, send frames, wait for news or a heartbeat, read again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psycopg
from django.http import HttpResponse, StreamingHttpResponse

from apps.core import lifespan
from apps.core.sse import frames, wakeups
from apps.core.sse.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from apps.core.sse.outlet import Outlet

log = logging.getLogger(__name__)

RETRY_MS = 2000
# Proxies close what is silent for a minute; and a lost wake-up costs no more than this.
HEARTBEAT_SECONDS = 15.0


class Step(NamedTuple):
    """What one read found: frames to send, whether there may be more at once, and whether the stream is over."""

    frames: Sequence[bytes]
    has_more: bool = False
    is_over: bool = False


class Source(Protocol):
    """What a stream is made of."""

    async def open(self) -> Callable[[], Awaitable[Step]] | None:
        """Return how to read what there is to send; None if nothing ever will be."""

    async def wait(self, timeout: float) -> bool:
        """Wait for news, at most `timeout` seconds."""

    def close(self) -> None:
        """Give back what the stream holds."""

    def farewell(self) -> bytes:
        """Return what is said last when the process stops."""


class _Channels:
    """The plain source: reads again whenever something is said on its channels."""

    def __init__(self, channels: Sequence[str], read: Callable[[], Awaitable[Step]]) -> None:
        self._subscription = wakeups.subscribe(*channels)
        self._read = read
        self.wait = self._subscription.wait

    async def open(self) -> Callable[[], Awaitable[Step]]:
        self._subscription.__enter__()
        return self._read_or_tell

    async def _read_or_tell(self) -> Step:
        try:
            return await self._read()
        except psycopg.OperationalError as exc:
            log.info("a stream ends before its time: %s", exc)
            return Step([frames.database_away()], is_over=True)

    def close(self) -> None:
        self._subscription.__exit__()

    def farewell(self) -> bytes:
        return frames.comment("end reason=shutdown")


def follow(
    channels: Sequence[str],
    read: Callable[[], Awaitable[Step]],
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> AsyncIterator[bytes]:
    """Yield the frames that `read` finds, read again whenever one of `channels` is announced."""
    return follow_source(_Channels(channels, read), heartbeat=heartbeat)


async def follow_source(
    source: Source,
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
    outlet: Outlet | None = None,
    opening: bytes = frames.retry(RETRY_MS),
) -> AsyncGenerator[bytes]:
    """Yield the frames that a source has, until it says that the stream is over or the process stops.

    It is read again at every heartbeat: a lost wake-up costs time, never an event. No connection to Postgres is held
    while waiting. Meanwhile others may tell its frames through `outlet`.
    """
    try:
        yield opening
        read = await source.open()
        silent_since = time.monotonic()
        while read is not None:
            step = await read()
            if step.frames:
                # In one piece: what a frame costs is its way to the socket.
                yield step.frames[0] if len(step.frames) == 1 else b"".join(step.frames)
                silent_since = time.monotonic()
            if step.is_over:
                return
            if lifespan.is_draining():
                yield source.farewell()
                return
            if step.has_more:
                continue
            silence = time.monotonic() - silent_since
            if silence < heartbeat:
                await source.wait(heartbeat - silence)
                if outlet is not None:
                    silent_since = max(silent_since, outlet.pushed_at)
            if time.monotonic() - silent_since >= heartbeat:
                yield frames.comment("hb")
                silent_since = time.monotonic()
    finally:
        source.close()


class StreamResponse(Lasting, StreamingHttpResponse):
    """An answer that streams until its source is over."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        charged_to: UUID | None = None,
        is_document: bool = False,
        outlet: Outlet | None = None,
        **options: Any,
    ) -> None:
        Lasting.__init__(self, charged_to=charged_to)
        StreamingHttpResponse.__init__(self, content, **options)
        # Whoever gets a document takes what came for the whole: one that ends early is cut off, never ended in order.
        self.is_document = is_document
        # Django wraps what it iterates twice; a frame needn't pass through that.
        self.parts = content
        self.outlet = outlet

    def close(self) -> None:
        """End the answer, for Django's own handlers."""
        self.release()
        StreamingHttpResponse.close(self)


def response(
    content: AsyncIterator[bytes],
    *,
    charged_to: UUID | None = None,
    outlet: Outlet | None = None,
    cache_control: str = "no-cache",
) -> StreamResponse:
    """Return the answer that carries a stream, with the headers that keep proxies from buffering it."""
    return StreamResponse(
        content,
        charged_to=charged_to,
        outlet=outlet,
        content_type=frames.CONTENT_TYPE,
        headers={"Cache-Control": cache_control, "X-Accel-Buffering": "no"},
    )


def nothing_more() -> HttpResponse:
    """Return the answer that tells an EventSource not to come again: what it asks for has ended."""
    answer = HttpResponse(status=204)
    del answer["Content-Type"]  # there is no content, and Django would call it HTML
    return answer
