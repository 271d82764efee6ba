"""One request over HTTP/2 and its answer: a stream of a connection, as ASGI sees it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from django.conf import settings
from h2.errors import ErrorCodes

from apps.core.errors import GyozaError, Invalid
from apps.stack.connections.framing import OVERHEAD_BYTES, fault_of
from apps.stack.connections.head import MOST_HEAD_BYTES, too_large
from apps.stack.connections.refusals import refusing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]

# RFC 9113 §8.2.2: they belong to a connection of HTTP/1.1.
_OF_HTTP_1 = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_BODILESS = frozenset({204, 304})


class Link(Protocol):
    """What an exchange needs of its connection."""

    async def writable(self) -> None: ...
    def send_head(self, stream: int, headers: Headers, *, ends: bool) -> None: ...
    def send_body(self, stream: int, body: memoryview, *, ends: bool) -> int: ...
    def taken(self, stream: int, size: int) -> None: ...
    def reset(self, stream: int, code: ErrorCodes) -> None: ...


def scope_of(headers: Iterable[tuple[bytes, bytes]], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ASGI scope of a request, be it one that `fault_in` refuses."""
    pseudo: dict[bytes, bytes] = {}
    plain: Headers = []
    crumbs: list[bytes] = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[name] = value
        elif name == b"cookie":
            crumbs.append(value)  # RFC 9113 §8.2.3: they may come in several
        else:
            plain.append((name, value))
    if crumbs:
        plain.append((b"cookie", b"; ".join(crumbs)))
    authority = pseudo.get(b":authority")
    if authority is not None and not any(name == b"host" for name, _ in plain):
        plain.insert(0, (b"host", authority))
    raw_path, _, query = pseudo.get(b":path", b"").partition(b"?")
    return {
        **common,
        "type": "http",
        "http_version": "2",
        "method": pseudo.get(b":method", b"").decode("latin-1").upper(),
        "path": common["root_path"] + unquote(raw_path.decode("latin-1")),
        "raw_path": common["root_path"].encode("ascii") + raw_path,
        "query_string": query,
        "headers": plain,
    }


def fault_in(scope: Mapping[str, Any]) -> GyozaError | None:
    """Return what is wrong with a head that `h2` has let through; None if HTTP/1.1 could have said it."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + OVERHEAD_BYTES for name, value in scope["headers"])
    if size > MOST_HEAD_BYTES:
        return too_large()
    target: bytes = scope["raw_path"] + scope["query_string"]
    if scope["method"] != "CONNECT" and not (
        target.startswith(b"/") and target.isascii() and scope["method"].isalpha()
    ):
        return Invalid("not an HTTP request")
    return fault_of(scope["method"].encode(), "2", scope["headers"])


class Exchange:
    """A request that is being answered."""

    def __init__(self, stream: int, scope: dict[str, Any], link: Link) -> None:
        self.stream = stream
        self._scope = scope
        self._link = link
        self._body = bytearray()
        self._has_all = False
        self._news = asyncio.Event()
        # Set when more may be sent.
        self._room = asyncio.Event()
        self._is_gone = False
        self._has_begun = False
        self._has_ended = False
        self._is_bodiless = scope["method"] == "HEAD"

    async def run(self, app: Any) -> None:
        """Have the application answer."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            log.exception("an application failed")
        if not (self._has_ended or self._is_gone):
            await self._give_up()

    def body_came(self, data: bytes) -> None:
        if self._has_ended:
            self._link.taken(self.stream, len(data))
        else:
            self._body += data
            self._news.set()

    def body_ended(self) -> None:
        self._has_all = True
        self._news.set()

    def room_came(self) -> None:
        self._room.set()

    def gone(self) -> None:
        """Note that nobody waits for the answer any more."""
        self._is_gone = True
        self._news.set()
        self._room.set()

    async def receive(self) -> dict[str, Any]:
        if not (self._is_gone or self._has_ended):
            await self._wait_for_news()
            self._news.clear()
        if self._is_gone or self._has_ended:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        if body:
            self._link.taken(self.stream, len(body))
        return {"type": "http.request", "body": body, "more_body": not self._has_all}

    async def _wait_for_news(self) -> None:
        """Wait for more of the body, but not for ever; or, behind its end, until the client leaves."""
        try:
            async with asyncio.timeout(None if self._has_all else settings.GYOZA_STALLED_SECONDS):
                await self._news.wait()
        except TimeoutError:
            self._link.reset(self.stream, ErrorCodes.CANCEL)
            self.gone()

    async def send(self, message: Mapping[str, Any]) -> None:
        await self._link.writable()
        if self._is_gone:
            return
        if not self._has_begun:
            self._begin(message)
        elif not self._has_ended:
            await self._go_on(message)

    def _begin(self, message: Mapping[str, Any]) -> None:
        self._has_begun = True
        self._is_bodiless = self._is_bodiless or message["status"] in _BODILESS
        headers = [(b":status", str(message["status"]).encode("ascii"))]
        headers += [
            (name.lower(), value)
            for name, value in message.get("headers", ())
            if name.lower() not in _OF_HTTP_1
        ]
        self._link.send_head(self.stream, headers, ends=self._is_bodiless)
        if self._is_bodiless:
            self._end()

    async def _go_on(self, message: Mapping[str, Any]) -> None:
        is_last = not message.get("more_body", False)
        rest = memoryview(message.get("body", b""))
        while rest:
            sent = self._link.send_body(self.stream, rest, ends=is_last)
            rest = rest[sent:]
            if not rest:
                break
            if not sent:
                await self._wait_for_room()
            await self._link.writable()
            if self._is_gone:
                return
        else:
            if is_last:
                self._link.send_body(self.stream, rest, ends=True)
        if is_last:
            self._end()

    async def _wait_for_room(self) -> None:
        """Wait until the client takes more; one that does not for too long is given up (topics v0 ⚑36)."""
        self._room.clear()
        try:
            async with asyncio.timeout(settings.GYOZA_STALLED_SECONDS):
                await self._room.wait()
        except TimeoutError:
            self._link.reset(self.stream, ErrorCodes.CANCEL)
            self.gone()

    def _end(self) -> None:
        """Note that the answer is complete. What is still to come of the body is let pass, as over HTTP/1.1.

        Resetting the stream instead (RFC 9113 §8.1) makes some clients wait for ever for room to send the rest.
        """
        self._has_ended = True
        self._news.set()
        if self._body:
            self._link.taken(self.stream, len(self._body))
            self._body = bytearray()

    async def _give_up(self) -> None:
        if self._has_begun:
            self._link.reset(self.stream, ErrorCodes.INTERNAL_ERROR)
            self.gone()
            return
        await refusing(None)(self._scope, self.receive, self.send)
