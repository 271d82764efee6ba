"""The ASGI application in process: whole answers, and streams frame by frame."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from apps.core.sse.outlet import EXTENSION
from gyoza_site.asgi import application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# No test is judged by it: it only ends one that would wait for ever.
PATIENCE = 30


@dataclass
class Frame:
    """One server-sent event."""

    data: Any = None
    event: str = ""
    id: str = ""


@dataclass
class Answer:
    """A status, headers, and a body that may still be growing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    # Whether it was ended in order; the server cuts the connection of one that wasn't.
    is_complete: bool = False
    _rest: bytes = b""

    async def body(self) -> bytes:
        """Return everything until the end."""
        while (part := await self.parts.get()) is not None:
            self._rest += part
        return self._rest

    async def json(self) -> Any:
        return json.loads(await self.body())

    async def frame(self) -> Frame | None:
        """Return the next frame that carries data; None at the end."""
        while True:
            while b"\n\n" not in self._rest:
                part = await asyncio.wait_for(self.parts.get(), PATIENCE)
                if part is None:
                    return None
                self._rest += part
            block, self._rest = self._rest.split(b"\n\n", 1)
            frame = _parse(block.decode())
            if frame is not None:
                return frame

    async def next_frame(self) -> Frame:
        """Return the next frame that carries data; there must be one."""
        frame = await self.frame()
        assert frame is not None, "the stream has ended"
        return frame

    async def frames(self) -> list[Frame]:
        """Return every frame until the stream ends."""
        found = []
        while (frame := await self.frame()) is not None:
            found.append(frame)
        return found


def _parse(block: str) -> Frame | None:
    frame = Frame()
    has_data = False
    for line in block.split("\n"):
        name, _, value = line.partition(": ")
        if name == "data":
            frame.data, has_data = json.loads(value), True
        elif name in {"event", "id"}:
            setattr(frame, name, value)
    return frame if has_data else None


@asynccontextmanager
async def opened(url: str, *, key: str | None = None, **headers: str) -> AsyncIterator[Answer]:
    """GET a URL and give its answer as soon as it begins; leaving the block disconnects."""
    parts = urlsplit(url)
    given = {"host": "localhost", **{k.replace("_", "-").lower(): v for k, v in headers.items()}}
    if key is not None:
        given["x-api-key"] = key
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    answer, begun, left = Answer(), asyncio.Event(), asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            begun.set()
        else:
            answer.parts.put_nowait(message.get("body", b""))
            if not message.get("more_body", False):
                answer.is_complete = True
                answer.parts.put_nowait(None)

    def push(part: bytes) -> bool:
        answer.parts.put_nowait(part)
        return True

    scope["extensions"] = {EXTENSION: {"push": push}}
    serving = asyncio.create_task(application(scope, receive, send))
    serving.add_done_callback(lambda _: answer.parts.put_nowait(None))
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait({serving, waiting}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield answer
    finally:
        left.set()
        await serving


async def get(url: str, *, key: str | None = None, **headers: str) -> tuple[int, Any]:
    """GET a URL and return its status and its JSON."""
    async with opened(url, key=key, **headers) as answer:
        return answer.status, await answer.json()
