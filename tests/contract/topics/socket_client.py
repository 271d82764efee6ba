"""A client of `/v0/ws` for the sync tests: the application's side of a WebSocket, message by message."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

from tests.asgi_client import PATIENCE

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

SUBSCRIBED = {"op": "subscribed"}


class Socket:
    """A socket, or the answer that refuses it; leaving the block disconnects.

    It takes what it is sent as long as `reads` is set.
    """

    def __init__(
        self,
        api: Api,
        *,
        key: str | None = None,
        path: str = "/v0/ws",
        query: str = "",
        **headers: str,
    ) -> None:
        self._api = api
        given = {"host": "localhost", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if key is not None:
            given["authorization"] = f"Bearer {key}"
        self._scope = {
            "type": "websocket",
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        # Of the refusal, or 101.
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.closed_with: int | None = None

    def __enter__(self) -> Self:
        self._api.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Disconnect; the application has ended when this returns."""
        self._api.run(self._leave())

    def say(self, op: str, **members: Any) -> None:
        """Send a command."""
        self.say_text(json.dumps({"op": op, **members}))

    def say_text(self, text: str) -> None:
        self._api.run(self._put({"type": "websocket.receive", "text": text}))

    def say_bytes(self, data: bytes) -> None:
        self._api.run(self._put({"type": "websocket.receive", "bytes": data}))

    def ask(self, op: str, **members: Any) -> Any:
        """Send a command and return what comes next."""
        self.say(op, **members)
        return self.hear()

    def hear(self) -> Any:
        """Return the next message."""
        return json.loads(self.hear_text())

    def hear_text(self) -> str:
        message = self._api.run(self._take())
        assert message["type"] == "websocket.send", message
        return str(message["text"])

    def expect(self, op: str, **members: Any) -> Any:
        """Return the next message, which is of this op and has these members."""
        message = self.hear()
        assert message["op"] == op, message
        assert {name: message[name] for name in members} == members, message
        return message

    def records(self, *data: Any, **members: Any) -> Any:
        """Return the next message, which has records with these data."""
        message = self.expect("record", **members)
        assert [record["data"] for record in message["records"]] == list(data)
        return message

    def is_closed_with(self) -> int:
        """Return the code with which the server closes, next."""
        message = self._api.run(self._take())
        assert message["type"] == "websocket.close", message
        return int(message["code"])

    def stop_reading(self) -> None:
        """Take nothing any more, as a client whose buffers are full."""
        self._api.run(self._stop_reading())

    def read_on(self) -> None:
        self._api.run(self._read_on())

    async def _open(self) -> None:
        self._in: asyncio.Queue[Any] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._reads = asyncio.Event()
        self._reads.set()
        self._begun = asyncio.Event()
        self._in.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.ensure_future(self._api.app(self._scope, self._in.get, self._hand))
        waiting = asyncio.ensure_future(self._begun.wait())
        await asyncio.wait(
            {self._serving, waiting}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()

    async def _hand(self, message: Any) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.status = 101
            self.headers = _read(message["headers"])
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            self.headers = _read(message["headers"])
            return
        elif kind == "websocket.http.response.body":
            self.body += message["body"]
        else:
            await self._reads.wait()
            self._out.put_nowait(message)
        self._begun.set()

    async def _put(self, message: Any) -> None:
        self._in.put_nowait(message)

    async def _take(self) -> Any:
        return await asyncio.wait_for(self._out.get(), PATIENCE)

    async def _stop_reading(self) -> None:
        self._reads.clear()

    async def _read_on(self) -> None:
        self._reads.set()

    async def _leave(self) -> None:
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1005})
        self._reads.set()
        await asyncio.wait_for(self._serving, PATIENCE)


def _read(headers: Any) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
