"""Request bodies, read with limits that hold before they are in memory: one for each, and one for all of them together."""

from __future__ import annotations

import asyncio
import time
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings

from apps.core.errors import Invalid, Stalled, TooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Mapping,
        MutableMapping,
    )
    from typing import IO

    from apps.core.held import Held

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

T = TypeVar("T")

# Larger bodies of the control plane wait on disk for their view.
_IN_MEMORY = 256 * 1024


class ClientGone(Exception):
    """The client has left before its request was complete."""


def limit_for(path: str) -> int:
    """Return the most bytes a request to this path may carry; the longest prefix in the settings decides."""
    limits: dict[str, int] = settings.GYOZA_BODY_LIMITS
    return limits[max((prefix for prefix in limits if path.startswith(prefix)), key=len)]


async def read_bytes(scope: Scope, receive: Receive, limit: int, held: Held) -> bytes:
    """Return the body; raises TooLarge and Throttled as soon as that is certain, ClientGone if the client leaves."""
    _judge(_announced_length(scope), limit, held)
    began = time.monotonic()
    chunk, more = await _receive(receive, held, limit)
    if not more:
        # Most bodies come in one piece and are not copied.
        return chunk
    body = bytearray(chunk)
    while more:
        chunk, more = await _receive_more(receive, held, limit, began)
        body += chunk
    return bytes(body)


async def read_file(scope: Scope, receive: Receive, limit: int, held: Held) -> IO[bytes]:
    """Do as `read_bytes`, into a file that is in memory as long as it is small."""
    _judge(_announced_length(scope), limit, held)
    file: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        began = time.monotonic()
        chunk, more = await _receive(receive, held, limit)
        file.write(chunk)
        while more:
            chunk, more = await _receive_more(receive, held, limit, began)
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


async def until_gone(receive: Receive) -> None:
    """Return when the client has left; its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what work comes to; if the client leaves meanwhile, cancel it and raise ClientGone."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def pieces(scope: Scope, receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes and keep none of it; raises as `read_bytes`, and Invalid if it is not as announced."""
    announced = _announced_length(scope)
    if announced > limit:
        raise _too_large(limit)
    length, more = 0, True
    while more:
        try:
            async with asyncio.timeout(settings.GYOZA_STALLED_SECONDS):
                message = await receive()
        except TimeoutError as exc:
            raise Stalled from exc
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        length += len(piece)
        if length > limit:
            raise _too_large(limit)
        if piece:
            yield piece
    if announced and length != announced:
        raise Invalid(f"{announced} bytes were announced, {length} came")


async def _receive_more(
    receive: Receive, held: Held, limit: int, began: float
) -> tuple[bytes, bool]:
    """Receive on. What has come so far is held: by nobody for ever, be it that something comes now and then."""
    patience, rate = settings.GYOZA_STALLED_SECONDS, settings.GYOZA_BODY_BYTES_PER_SECOND
    left = began + patience + held.size / rate - time.monotonic()
    try:
        async with asyncio.timeout(min(patience, left)):
            return await _receive(receive, held, limit)
    except TimeoutError as exc:
        if left < patience:
            raise Stalled(
                f"the body came at less than {rate} bytes per second",
                limit="body_bytes_per_second",
                least=rate,
            ) from exc
        raise Stalled from exc


async def _receive(receive: Receive, held: Held, limit: int) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    chunk: bytes = message.get("body", b"")
    if held.size + len(chunk) > limit:
        raise _too_large(limit)
    held.take(len(chunk))
    return chunk, message.get("more_body", False)


def _judge(announced: int, limit: int, held: Held) -> None:
    if announced > limit:
        raise _too_large(limit)
    held.check(announced)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes")


def _announced_length(scope: Scope) -> int:
    """Return how long a body is said to be, 0 if that isn't. Raises UnsupportedMediaType if it is packed."""
    length = 0
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            # RFC 9110 §8.4: what is packed small could become anything, and as it is it isn't what it is said to be.
            raise UnsupportedMediaType("a body is read as it is: no Content-Encoding is undone")
    return length
