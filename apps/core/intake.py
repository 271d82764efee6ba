"""Request bodies, read with a limit that holds before they are in memory."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.core.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
    from typing import IO

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# Larger bodies of the control plane wait on disk for their view.
_IN_MEMORY = 256 * 1024


class ClientGone(Exception):
    """The client has left before its request was complete."""


def limit_for(path: str) -> int:
    """Return the most bytes a request to this path may carry; the longest prefix in the settings decides."""
    limits: dict[str, int] = settings.GYOZA_BODY_LIMITS
    return limits[max((prefix for prefix in limits if path.startswith(prefix)), key=len)]


async def read_bytes(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body; raises TooLarge as soon as that is certain, ClientGone if the client leaves."""
    chunks = [chunk async for chunk in _chunks(scope, receive, limit)]
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_file(scope: Scope, receive: Receive, limit: int) -> IO[bytes]:
    """Do as `read_bytes`, into a file that is in memory as long as it is small."""
    file: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        async for chunk in _chunks(scope, receive, limit):
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


async def _chunks(scope: Scope, receive: Receive, limit: int) -> AsyncIterator[bytes]:
    if _announced_length(scope) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    total, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        total += len(chunk)
        if total > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        if chunk:
            yield chunk


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
