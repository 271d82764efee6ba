"""WebSocket connections as the web process holds them: bounded in what they may bring, and in how long they are waited for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.frames import Frame, Opcode

from apps.core.errors import GyozaError, Invalid, Throttled, TooLarge, UpgradeRequired
from apps.core.held import BODIES, Held
from apps.stack.connections.framing import path_of, target_in
from apps.stack.connections.patience import Patience
from apps.stack.connections.refusals import refusal

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from websockets.http11 import Request

# Each costs its list a place: a mebibyte that comes byte by byte would cost fifty.
MOST_FRAGMENTS = 1024
# As a long answer over HTTP: a client that doesn't take them holds two at most, however long the message.
PIECE_BYTES = 64 * 1024
# Proxies close what is silent for a minute.
PING_SECONDS = 20.0

# RFC 6455 §7.4.1
_INVALID_DATA, _POLICY, _TRY_LATER = 1007, 1008, 1013


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with its limits and errors as everywhere here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # It tells of every connection.
        self.logger = logging.getLogger("uvicorn.websocket")
        # What has come of messages that the application has not done with.
        self._held = Held(BODIES)
        self._undone_bytes = 0
        self._path = ""  # of the handshake, which comes whole and before all else
        self._arriving: TimerHandle | None = None
        self._has_failed = False
        self._patience: Patience

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience = Patience(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        self._stop_expecting()
        self._held.let_go()
        super().connection_lost(exc)

    # What comes in

    def handle_connect(self, event: Request) -> None:
        if self.conn.accept(event).status_code == 101:
            super().handle_connect(event)
        else:
            self._refuse(UpgradeRequired("this is no WebSocket handshake of RFC 6455"))

    def data_received(self, data: bytes) -> None:
        if self._has_failed:
            return
        self._path = self._path or path_of(target_in(data))
        super().data_received(data)
        if self.conn.handshake_exc is not None:
            self._refuse(Invalid("this is no WebSocket handshake of RFC 6455"))
            return
        if not self.close_sent:
            self._judge_what_came()
        if self._has_failed:
            self._hang_up()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self._fail(_POLICY, f"a message has more than {MOST_FRAGMENTS} fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(_INVALID_DATA, "a message is not UTF-8")
                return
        if not self.close_sent:
            self._undone_bytes += sum(map(len, self.frames))
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        if isinstance(self.conn.parser_exc, PayloadTooBig):
            most = self.config.ws_max_size
            self._tell(TooLarge(f"a message is larger than {most} bytes", max=most))
        self._has_failed = self.close_sent = True

    async def receive(self) -> Any:
        if self.queue.empty():
            self._undone_bytes = 0
            self._hold()
        message = await super().receive()
        if not self.writable.is_set() and not self.disconnected:
            self.transport.pause_reading()
        return message

    def _judge_what_came(self) -> None:
        try:
            self._hold()
        except Throttled as exc:
            self._tell(exc)
            self._fail(_TRY_LATER, exc.message)
            return
        # What has come of a message is held: by nobody for ever.
        self._stop_expecting()
        if self._unfinished_bytes():
            self._arriving = self.loop.call_later(
                settings.GYOZA_STALLED_SECONDS, self.transport.abort
            )

    def _hold(self) -> None:
        is_over = self.disconnected or self._has_failed
        size = 0 if is_over else self._undone_bytes + self._unfinished_bytes()
        if size < self._held.size:
            self._held.keep(size)
        else:
            self._held.take(size - self._held.size)

    def _unfinished_bytes(self) -> int:
        return len(self.conn.reader.buffer) + sum(map(len, self.frames))

    def _stop_expecting(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    # What goes out

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self._has_failed or (self.transport.is_closing() and not self.handshake_complete):
            raise ClientDisconnected
        text: str | None = message.get("text")
        if text is None or len(text) <= PIECE_BYTES or not self.handshake_complete:
            await super().send(message)
            if self.initial_response is not None and self.close_sent:
                self.handshake_complete = True  # refused, which is no failure of the application
            return
        data = text.encode()
        for start in range(0, len(data), PIECE_BYTES):
            await self.writable.wait()
            if self.disconnected or self.close_sent:
                raise ClientDisconnected
            end = start + PIECE_BYTES
            put = self.conn.send_continuation if start else self.conn.send_text
            try:
                put(data[start:end], fin=end >= len(data))
            except InvalidState as exc:  # the client has said goodbye
                raise ClientDisconnected from exc
            self.transport.write(b"".join(self.conn.data_to_send()))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.begin()
        # Nor are the pings answered of a client that doesn't read.
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    # Ends

    def keepalive_timeout(self) -> None:
        if self.read_paused or not self.writable.is_set():
            # Its pong may be there, unread; or our ping, behind what it has not taken yet.
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.stop_keepalive()  # the application says goodbye, and closes
        else:
            super().shutdown()

    def send_500_response(self) -> None:
        if not (self.initial_response or self.handshake_complete):
            self._refuse(None)

    def _refuse(self, error: GyozaError | None) -> None:
        """Answer an upgrade that never reached the application, and hang up."""
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(refusal(error, path=self._path).over_http_1())
        self.transport.close()

    def _tell(self, error: GyozaError) -> None:
        """Send an error of the connection's own, before it is closed; not into the middle of a message."""
        if self.conn.expect_continuation_frame:
            return
        said = {"op": "error", "request_id": None, "code": error.code, "message": error.message}
        frame = Frame(Opcode.TEXT, msgspec.json.encode(said))
        self.transport.write(frame.serialize(mask=False))

    def _fail(self, code: int, reason: str) -> None:
        """Close because of what the client has sent, as soon as all that has come with it has been looked at."""
        if not self._has_failed:
            self.conn.fail(code, reason)
            self._has_failed = self.close_sent = True

    def _hang_up(self) -> None:
        """Say why, and read on until the client has heard it: closing would reset what it is still sending to."""
        self._hold()
        self.stop_keepalive()
        self._stop_expecting()
        self.frames.clear()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        if self.transport.is_closing():
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
