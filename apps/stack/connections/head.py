"""The head of a request as the web process takes it in: not too long, and not for ever."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import httptools
from django.conf import settings

from apps.core.errors import GyozaError, HeadTooLarge, Invalid, Stalled
from apps.core.headers import ScopeHeaders
from apps.stack.connections.framing import (
    ENOUGH_BYTES,
    OVERHEAD_BYTES,
    fault_of,
    host_in,
    path_of,
    target_in,
)
from apps.stack.connections.pushing import PushingProtocol
from apps.stack.connections.refusals import refusal, refusing

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# Nobody is known before the head is complete, so what it may cost is little: other servers take 8 to 64 KiB.
MOST_HEAD_BYTES = 64 * 1024
# For so long a client that still sends may read the last answer: closing at once would reset the connection, and with it
# what it has not read yet (RFC 9112 §9.6).
LINGER_SECONDS = 5.0


class HeadProtocol(PushingProtocol):
    """Refuses a head that is too long (431), no HTTP (400) or not of our HTTP (501), and gives up a client that doesn't finish one."""

    _is_in_head = False
    _is_in_body = False
    _has_body = False
    # What has come since anything was taken: of a head, or of what is around a body's chunks and behind them.
    _head_bytes = 0
    # In the head that is being parsed.
    _header_bytes = 0
    # The beginning of what came last where a request may begin.
    _line = b""
    # Since when, and how much of it, a body comes whose request has been answered.
    _passing_since = 0.0
    _passed_bytes = 0
    _arriving: asyncio.TimerHandle | None = None
    _is_hanging_up = False
    _problem: GyozaError | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_hanging_up:
            return
        # What a pipelining client sends may begin with the end of the request before: that is not counted.
        if self._is_in_head or self._is_in_body or self.cycle is None:
            self._head_bytes += len(data)
        if not self._is_in_body:
            known = self._line if self._is_in_head else b""
            self._line = known + data[: ENOUGH_BYTES - len(known)]
        self._parse(data)
        if not (self._is_in_head or self._is_in_body):
            return
        self._unset_keepalive_if_required()
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(too_large())
        elif self._is_in_body and self._is_answered():
            self._let_pass(len(data))
        elif self._is_in_body and not self._has_body and self._arriving is None:
            # Most bodies come with their head. Whatever waits for the beginning of one is held: by nobody for ever.
            self._expect()

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                except httptools.HttpParserUpgrade as exc:
                    if self._should_upgrade():
                        self._unset_keepalive_if_required()  # it would end the socket
                        self.handle_websocket_upgrade()
                        return
                    rest = rest[exc.args[0] :]
                    self._stay()
                else:
                    return
        except httptools.HttpParserError:
            self._refuse(self._problem or Invalid("not an HTTP request"))

    def _stay(self) -> None:
        """Read a head again without its wish for a protocol that isn't spoken here (RFC 9110 §7.8).

        With the wish, the parser takes the body for that protocol's: it would be lost, or pass for the next request.
        """
        line = b"%b %b HTTP/%b" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn makes it: what comes behind a request that closes is not an error in that request.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([line, *fields, b"", b""]))

    def on_message_begin(self) -> None:
        # Not before: the empty lines that may stand before a request (RFC 9112 §2.2) are none.
        self._unset_keepalive_if_required()
        self._passing_since = 0.0
        self._header_bytes = 0
        self._is_in_head = True
        if self._arriving is None:
            self._expect()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind a body come trailers (RFC 9110 §6.5.1): no view reads any, and none may pass for a header of the request.
        if self._is_in_head:
            self._header_bytes += len(name) + len(value) + OVERHEAD_BYTES
            if self._header_bytes > MOST_HEAD_BYTES:
                self._stop_parsing(too_large())
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        fault = self._fault()
        if fault is not None:
            self._stop_parsing(fault)
        host = host_in(self.url)
        if host is not None:
            self.headers[:] = [(b"host", host), *(one for one in self.headers if one[0] != b"host")]
        if self.parser.should_upgrade() and not self._should_upgrade():
            return  # it is read again, by `_stay`
        self._is_in_head = False
        self._head_bytes = 0
        self._stop_expecting()
        self._is_in_body = True
        self._has_body = False
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            # uvicorn's own is a line of text.
            cycle.send_500_response = partial(_tell_of_failure, cycle)  # type: ignore[method-assign]
            if not cycle.keep_alive:
                cycle.transport = _LastAnswer(self)  # type: ignore[assignment]

    def _stop_parsing(self, problem: GyozaError) -> NoReturn:
        """Have no request come of what is being parsed: the parser hands it on as an error of its own."""
        self._problem = problem
        raise problem

    def _fault(self) -> GyozaError | None:
        if self._header_bytes + len(self.url) > MOST_HEAD_BYTES:
            return too_large()
        version = self.parser.get_http_version()
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110 §10.1.1
        return fault_of(self.parser.get_method(), version, self.headers)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        self._has_body = True
        self._stop_expecting()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_in_head:
            return  # it is read again, by `_stay`
        self._is_in_body = False
        self._head_bytes = 0
        self._stop_expecting()
        super().on_message_complete()
        if self._is_answered():
            # It is kept for another request from now on, and not since its answer.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _refuse(self, error: GyozaError) -> None:
        """Answer what never became a request, and hang up.

        Requests that came before it are answered first, and then it goes without a word: that would be taken for the
        answer to one of them.
        """
        if self._is_next_to_be_answered():
            path = path_of(self.url or target_in(self._line))
            told = refusal(error, path=path, headers=ScopeHeaders(self.headers))
            self.transport.write(told.over_http_1())
            self.hang_up()
        elif self._is_in_body or isinstance(error, HeadTooLarge):
            self.transport.close()
        else:
            self._stop_expecting()
            newest = self.pipeline[0][0] if self.pipeline else self.cycle
            newest.keep_alive = False

    def hang_up(self) -> None:
        """Say nothing more, and close as soon as the client has."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self._is_hanging_up = True
        self._is_in_head = self._is_in_body = False
        self._stop_expecting()
        self._unset_keepalive_if_required()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self._arriving = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
            self.flow.resume_reading()

    @property
    def is_in_body(self) -> bool:
        """Whether the newest request has not come to its end."""
        return self._is_in_body

    def _is_next_to_be_answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            return True
        is_due = not cycle.response_started if self._is_in_body else cycle.response_complete
        return is_due and not self.pipeline

    def _is_answered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.response_complete

    def _let_pass(self, size: int) -> None:
        """Let the rest of a body pass whose request has been answered: many clients read only then. But let none drip."""
        now = self.loop.time()
        if not self._passing_since:
            self._passing_since, self._passed_bytes = now, 0
        self._passed_bytes += size
        patience, rate = settings.GYOZA_STALLED_SECONDS, settings.GYOZA_BODY_BYTES_PER_SECOND
        left = self._passing_since + patience + self._passed_bytes / rate - now
        self._stop_expecting()
        self._arriving = self.loop.call_later(max(0.0, min(patience, left)), self._give_up)

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


class _LastAnswer:
    """What the last answer on a connection is written to."""

    def __init__(self, protocol: HeadProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        if self._protocol.is_in_body:
            self._protocol.hang_up()
        else:
            self._protocol.transport.close()


async def _tell_of_failure(cycle: RequestResponseCycle) -> None:
    await refusing(None)(cycle.scope, cycle.receive, cycle.send)


def too_large() -> HeadTooLarge:
    """Return what is told of a head over the limit."""
    return HeadTooLarge(f"the head of the request is over {MOST_HEAD_BYTES} bytes")
