"""Request bodies, read with a limit that holds before they are in memory."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.core.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
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
    if _announced_length(scope) > limit:
        raise _too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            # Most bodies come in one piece and are not copied.
            return bytes(body + chunk) if body else chunk
        body += chunk


async def read_file(scope: Scope, receive: Receive, limit: int) -> IO[bytes]:
    """Do as `read_bytes`, into a file that is in memory as long as it is small."""
    if _announced_length(scope) > limit:
        raise _too_large(limit)
    file: IO[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        more, total = True, 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            total += len(message.get("body", b""))
            if total > limit:
                raise _too_large(limit)
            file.write(message.get("body", b""))
            more = message.get("more_body", False)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes")


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
