"""WebSockets: what a view answers that takes one, and the short way from ASGI to it and back.

Who calls, and may they, is decided as for any request, by the view's `dispatch`: a refusal is an HTTP answer to the upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from apps.core import correlation
from apps.core.api import exception_handler
from apps.core.dataplane import refusal
from apps.core.errors import NotFound
from apps.core.held import sending
from apps.core.intake import ClientGone
from apps.core.slim import Answer, SlimRequest, raw_headers
from apps.core.sse.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest
    from django.urls import ResolverMatch

    from apps.core.intake import Receive, Scope
    from apps.core.slim import Send


log = logging.getLogger(__name__)


class Closing(NamedTuple):
    """Why the server closes a socket, by RFC 6455 §7.4."""

    code: int
    reason: str = ""


GOING_AWAY = Closing(1001, "the server is stopping")
KEY_IS_GONE = Closing(1008, "the key was revoked or has expired")
BROKEN = Closing(1011, "something went wrong on our side")


class Socket:
    """The messages of an open socket."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def receive(self) -> str | bytes:
        """Return the next message, text or binary; raises ClientGone."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise ClientGone
        text: str | None = message.get("text")
        if text is not None:
            return text
        binary: bytes = message["bytes"]
        return binary

    async def send(self, text: bytes) -> None:
        """Send a message of text once the client has taken most of what went before; raises ClientGone."""
        try:
            # ASGI wants a string, and the server makes bytes of it again.
            with sending(2 * len(text)):
                await self._send({"type": "websocket.send", "text": text.decode()})
        except OSError as exc:  # so ASGI servers say that the connection is gone
            raise ClientGone from exc


class SocketAnswer(Lasting):
    """The answer of a view that takes the socket: `converse` speaks on it, and says in the end why it is closed."""

    def __init__(self, converse: Callable[[Socket], Awaitable[Closing]]) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}
        self.converse = converse


def is_asked_for(request: HttpRequest) -> bool:
    """Say whether a request is for a socket, and comes from a server that can give it one."""
    return isinstance(request, SlimRequest) and request.scope["type"] == "websocket"


async def serve(match: ResolverMatch | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request for a socket by its view, a `core.dataplane.View` with `commands`."""
    await receive()
    if match is None:
        problem = exception_handler.told_of(NotFound(), doing="looking for a view")
        await _refuse(refusal(scope["path"], problem), send)
        return
    request = SlimRequest({**scope, "method": "GET"}, receive)
    request.resolver_match = match
    answer: Answer | SocketAnswer = await match.func.dispatch(request, match.kwargs)  # type: ignore[attr-defined]
    if isinstance(answer, Answer):
        await _refuse(answer, send)
        return
    with correlation.bound(answer.headers[correlation.HEADER]), contextlib.suppress(ClientGone):
        try:
            await send({"type": "websocket.accept", "headers": raw_headers(answer.headers)})
            closing = await _converse(answer, Socket(receive, send))
        finally:
            answer.release()
        with contextlib.suppress(OSError):
            await send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})


async def _converse(answer: SocketAnswer, socket: Socket) -> Closing:
    talking = asyncio.ensure_future(answer.converse(socket))
    ends: list[asyncio.Future[Any]] = [talking, answer.told_to_end()]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return await talking if talking.done() else KEY_IS_GONE
    except ClientGone:
        raise
    except Exception:
        log.exception("a socket failed")
        return BROKEN
    finally:
        if not talking.done():
            talking.cancel()
            # It closes what it holds before this returns.
            await asyncio.wait({talking})


async def _refuse(answer: Answer, send: Send) -> None:
    answer.held.let_go()
    head = {"status": answer.status, "headers": raw_headers(answer.headers)}
    with contextlib.suppress(OSError):
        await send({"type": "websocket.http.response.start", **head})
        await send({"type": "websocket.http.response.body", "body": answer.body})
