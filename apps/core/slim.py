"""The short way from ASGI to an async view: no middleware, no signals, no thread, no header parsed in advance."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import psycopg
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.utils.functional import cached_property

from apps.core import intake
from apps.core.headers import ScopeHeaders
from apps.core.held import ANSWERS, BODIES, Held, sending
from apps.core.intake import ClientGone
from apps.core.sse.outlet import EXTENSION
from apps.core.sse.stream import StreamResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from django.http import HttpResponseBase
    from django.urls import ResolverMatch

    from apps.core.intake import Receive, Scope

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

# Of what a connection doesn't take, two of these are held at most.
PIECE_BYTES = 64 * 1024


class SlimRequest(ASGIRequest):
    """Django's request, of which only what is asked for is made."""

    def __init__(
        self, scope: Scope, receive: Receive
    ) -> None:  # deliberately without super(): it parses it all
        self.scope = scope
        self.receive = receive
        self.method = scope["method"]
        self.path = self.path_info = scope["path"]
        self.script_name = ""
        self.resolver_match = None
        self.content_type = None
        self.content_params = None
        self._post_parse_error = False
        self._read_started = False
        self.held = Held(BODIES)

    @cached_property
    def headers(self) -> ScopeHeaders:  # type: ignore[override]
        return ScopeHeaders(self.scope["headers"])

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]  # noqa: N802 - Django's name
        return ASGIRequest(self.scope, None).META  # type: ignore[arg-type]

    async def take_body(self, limit: int) -> bytes:
        """Read the body; once."""
        return await intake.read_bytes(self.scope, self.receive, limit, self.held)


class Answer:
    """An answer that is complete: all that the slim handler needs of a response, and a tenth of what Django's costs."""

    __slots__ = ("body", "headers", "held", "status")

    def __init__(
        self, body: bytes, status: int = 200, *, content_type: str = "application/json"
    ) -> None:
        self.body = body
        self.status = status
        self.headers = {"Content-Type": content_type}
        self.held = Held(ANSWERS)

    def hold(self) -> None:
        """Count it as unsent until `held` is let go, unless it is short; raises Throttled."""
        if len(self.body) > PIECE_BYTES:
            self.held.take(len(self.body))

    def for_django(self) -> HttpResponse:
        """Return it as Django's own handlers and test client expect it."""
        self.held.let_go()
        return HttpResponse(self.body, status=self.status, headers=self.headers)


async def serve(match: ResolverMatch, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request by its view, which is a `core.dataplane.View`."""
    request = SlimRequest(scope, receive)
    request.resolver_match = match
    try:
        answer = await match.func.dispatch(request, match.kwargs)  # type: ignore[attr-defined]
    except ClientGone:
        return
    finally:
        request.held.let_go()
    is_head = scope["method"] == "HEAD"
    if isinstance(answer, Answer):
        # What is unchanged has a length, and it is not that of this body (RFC 9110 §8.6).
        length = [] if answer.status == 304 else [(b"content-length", b"%d" % len(answer.body))]
        headers = [*raw_headers(answer.headers), *length]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await _send_body(answer, b"" if is_head else answer.body, send)
    elif answer.streaming:
        if isinstance(answer, StreamResponse) and answer.outlet is not None:
            extension = scope.get("extensions", {}).get(EXTENSION)
            if extension is not None:
                answer.outlet.open(extension["push"])
        await stream(answer, receive, send, is_head=is_head)
    else:
        await send(head_of(answer))
        await send({"type": "http.response.body", "body": b"" if is_head else answer.content})


async def _send_body(answer: Answer, body: bytes, send: Send) -> None:
    try:
        if len(body) > PIECE_BYTES:
            for piece in _pieces(body):
                # Waits until the client has taken most of what went before.
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            body = b""
        await send({"type": "http.response.body", "body": body})
    finally:
        answer.held.let_go()


async def stream(
    response: HttpResponseBase, receive: Receive, send: Send, *, is_head: bool = False
) -> None:
    """Send a streaming response until it ends or the client leaves."""
    sending = asyncio.create_task(_send_all(response, send, is_head=is_head))
    leaving = asyncio.create_task(intake.until_gone(receive))
    ends: list[asyncio.Future[None]] = [sending, leaving]
    if isinstance(response, StreamResponse):
        ends.append(response.told_to_end())
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        try:
            # The stream closes what it holds before this returns; an error of its own is raised here.
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            is_cut = leaving.done() or getattr(response, "is_document", False)
            if sending.cancelled() and not is_cut:
                await send({"type": "http.response.body", "body": b""})  # told to end
        except psycopg.OperationalError as exc:
            # An answer that has begun can't become an error. Without its end, the server cuts the connection.
            log.warning("an answer is cut off: %s", exc)
        finally:
            leaving.cancel()
            if isinstance(response, StreamResponse):
                response.release()


async def _send_all(response: Any, send: Send, *, is_head: bool) -> None:
    await send(head_of(response))
    if not is_head:
        source = response.parts if isinstance(response, StreamResponse) else response
        async with contextlib.aclosing(aiter(source)) as parts:
            async for part in parts:
                # Waits while the client takes nothing; the server ends that (`stack.connections.protocol`).
                if len(part) <= PIECE_BYTES:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    continue
                with sending(len(part)):
                    for piece in _pieces(part):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _pieces(part: bytes) -> Iterator[memoryview]:
    """Cut what is long: the server copies whole what it sends, before it learns that nobody takes it."""
    view = memoryview(part)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]


def raw_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them, from anything with `items`."""
    return [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]


def head_of(response: HttpResponseBase) -> dict[str, Any]:
    """Return the ASGI message that opens a response."""
    headers = raw_headers(response)
    if response.cookies:
        headers += [
            (b"set-cookie", cookie.output(header="").strip().encode("latin-1"))
            for cookie in response.cookies.values()
        ]
    if not (response.streaming or response.has_header("Content-Length")):
        headers.append((b"content-length", b"%d" % len(response.content)))  # type: ignore[attr-defined]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}
