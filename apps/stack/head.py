"""The head of a request as the web process takes it in: not too long, and not for ever."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
import msgspec
from django.conf import settings

from apps.core import correlation
from apps.core.api import exception_handler
from apps.core.errors import GyozaError, HeadTooLarge, Invalid, Stalled
from apps.core.headers import ScopeHeaders
from apps.stack.pushing import PushingProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# Nobody is known before the head is complete, so what it may cost is little: other servers take 8 to 64 KiB.
MOST_HEAD_BYTES = 64 * 1024
# So much of a path tells its dialect; and the parser of URLs takes 64 KiB.
_ENOUGH_BYTES = 1024
_NO_HEADERS = ScopeHeaders([])


class HeadProtocol(PushingProtocol):
    """Refuses a head that is too long (431) or no HTTP (400), and gives up a client that doesn't finish one."""

    _is_in_head = False
    _is_in_body = False
    _has_body = False
    # What has come since anything was taken: of a head, or of what is around a body's chunks and behind them.
    _head_bytes = 0
    _arriving: asyncio.TimerHandle | None = None
    _problem: GyozaError | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # What a pipelining client sends may begin with the end of the request before: that is not counted.
        if self._is_in_head or self._is_in_body or self.cycle is None:
            self._head_bytes += len(data)
        super().data_received(data)
        if not (self._is_in_head or self._is_in_body):
            return
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(_too_large())
        elif self._is_in_body and not self._has_body and self._arriving is None:
            # Most bodies come with their head. Whatever waits for the beginning of one is held: by nobody for ever.
            self._expect()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        if self._arriving is None:
            self._expect()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind a body come trailers (RFC 9110 §6.5.1): no view reads any, and none may pass for a header of the request.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_bytes = 0
        self._stop_expecting()
        if (
            len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            > MOST_HEAD_BYTES
        ):
            # The parser hands it on as an error of its own, and no request comes of it.
            self._problem = _too_large()
            raise self._problem
        self._is_in_body = True
        self._has_body = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        self._has_body = True
        self._stop_expecting()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_body = False
        self._head_bytes = 0
        self._stop_expecting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._problem or Invalid("not an HTTP request"))

    def _refuse(self, error: GyozaError) -> None:
        """Answer what never became a request, and hang up.

        Requests that came before it are answered first, and then it goes without a word: that would be taken for the
        answer to one of them.
        """
        if self._is_next_to_be_answered():
            headers = ScopeHeaders(self.headers)
            self.transport.write(refusal(error, path=path_of(self.url), headers=headers))
        elif not (self._is_in_body or isinstance(error, HeadTooLarge)):
            self._stop_expecting()
            newest = self.pipeline[0][0] if self.pipeline else self.cycle
            newest.keep_alive = False
            return
        self.transport.close()

    def _is_next_to_be_answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return True
        is_due = not cycle.response_started if self._is_in_body else cycle.response_complete
        return is_due and not self.pipeline

    def _expect(self) -> None:
        self._arriving = self.loop.call_later(settings.GYOZA_STALLED_SECONDS, self._give_up)

    def _stop_expecting(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _give_up(self) -> None:
        self._arriving = None
        if not self._is_in_body:
            self.transport.abort()
        elif self.pipeline:
            self._expect()  # it is we who don't read
        else:
            self._refuse(Stalled())


def path_of(url: bytes) -> str:
    """Return the path of a request line, of as much as has come; the root if it has none. A long one is cut."""
    try:
        path: bytes | None = httptools.parse_url(url[:_ENOUGH_BYTES]).path
    except httptools.HttpParserInvalidURLError:
        path = None
    return unquote((path or b"/").decode("latin-1"))


def refusal(
    error: GyozaError | None, *, path: str = "/", headers: Mapping[str, str] = _NO_HEADERS
) -> bytes:
    """Return the answer to what never reached a view, in the path's dialect; None is a bug of ours."""
    problem = error and exception_handler.problem_of(error)
    with correlation.bound(correlation.choose(headers)) as correlation_id:
        status, body, more = exception_handler.rendered(
            path, problem or exception_handler.internal()
        )
    content = msgspec.json.encode(body)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        f"{correlation.HEADER.lower()}: {correlation_id}",
        *(f"{name.lower()}: {value}" for name, value in more.items() if name != "Connection"),
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(f"the head of the request is over {MOST_HEAD_BYTES} bytes")
