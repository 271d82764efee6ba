"""The one loop of every stream: read from a cursor, send frames, wait for news or a heartbeat, read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.http import StreamingHttpResponse

from apps.core import lifespan
from apps.core.sse import frames, wakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

RETRY_MS = 2000
# Proxies close what is silent for a minute; and a lost wake-up costs no more than this.
HEARTBEAT_SECONDS = 15.0


class Step(NamedTuple):
    """What one read found: frames to send, whether there may be more at once, and whether the stream is over."""

    frames: Sequence[bytes]
    has_more: bool = False
    is_over: bool = False


async def follow(
    channels: Sequence[str],
    read: Callable[[], Awaitable[Step]],
    *,
    heartbeat: float = HEARTBEAT_SECONDS,
) -> AsyncIterator[bytes]:
    """Yield the frames that `read` finds, until it says that the stream is over or the process stops.

    The log is read again at every heartbeat: a lost wake-up costs time, never an event. No connection to Postgres is
    held while waiting.
    """
    with wakeups.subscribe(*channels) as news:
        yield frames.retry(RETRY_MS)
        while True:
            step = await read()
            for one in step.frames:
                yield one
            if step.is_over:
                return
            if lifespan.is_draining():
                yield frames.comment("end reason=shutdown")
                return
            if not step.has_more and not await news.wait(heartbeat) and not step.frames:
                yield frames.comment("hb")


def response(content: AsyncIterator[bytes]) -> StreamingHttpResponse:
    """Return the answer that carries a stream, with the headers that keep proxies from buffering it."""
    return StreamingHttpResponse(
        content,
        content_type=frames.CONTENT_TYPE,
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
