"""The ASGI application in process, as clients that send and receive objects see it: raw paths, bodies in pieces."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from gyoza_site.asgi import application
from tests import aio

if TYPE_CHECKING:
    from collections.abc import Iterable

OBJECTS = "/api/v1/storage/objects"


@dataclass
class Answer:
    """A whole answer; status 0 if there was none."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> Any:
        return json.loads(self.content)

    # As DRF's test client calls it.
    @property
    def status_code(self) -> int:
        return self.status


def call(
    method: str,
    target: str,
    content: bytes | Iterable[bytes] = b"",
    *,
    key: str | None = None,
    is_cut: bool = False,
    **headers: str,
) -> Answer:
    """Send a request; `target` is the path as it stands on the wire. `is_cut`: leave after the last piece."""
    return aio.run(send(method, target, content, key=key, is_cut=is_cut, **headers))


async def send(
    method: str,
    target: str,
    content: bytes | Iterable[bytes] = b"",
    *,
    key: str | None = None,
    is_cut: bool = False,
    **headers: str,
) -> Answer:
    """Do as `call` in an event loop that others send in, too."""
    pieces = [content] if isinstance(content, bytes) else list(content)
    path, _, query = target.partition("?")
    given = {"host": "localhost", **{k.replace("_", "-").lower(): v for k, v in headers.items()}}
    if key is not None:
        given["x-api-key"] = key
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "surrogateescape"),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    answer = Answer()
    coming = [
        {"type": "http.request", "body": piece, "more_body": is_cut or index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop(0)
        if is_cut or not answer.status:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def hear(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answer.content += bytes(message.get("body", b""))

    await application(scope, receive, hear)
    return answer


def put(of: str, content: bytes | Iterable[bytes] = b"x", **options: Any) -> Answer:
    """PUT an object by its key."""
    return call("PUT", f"{OBJECTS}/{of}", content, **options)


def get(of: str, **options: Any) -> Answer:
    """GET an object, or what stands behind its key."""
    return call("GET", f"{OBJECTS}/{of}", **options)
