"""HTTP/2 without TLS, by prior knowledge (topics v0 §2.1): a connection, by the state machine of `h2`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.conf import settings
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from apps.stack.connections.head import MOST_HEAD_BYTES
from apps.stack.connections.http2.exchange import Exchange, fault_in, scope_of
from apps.stack.connections.http2.toll import MOST_FRAME_BYTES, Excess, Oversize, Toll
from apps.stack.connections.patience import Patience
from apps.stack.connections.refusals import refusing

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from h2.events import Event
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from apps.stack.connections.http2.exchange import Headers

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_STREAMS = 100
# With those at work whose client has taken them back, and those that have just been answered.
MOST_AT_WORK = 2 * MOST_STREAMS
# Of a body that its view has not asked for yet, as over HTTP/1.1.
WINDOW_BYTES = 65_535
# Names and values that repeat; a client may ask for more, of our memory.
TABLE_BYTES = 4096
# Of a head, packed or unpacked. What is over the limit and still within this is refused alone: with what is longer the
# connection ends, as what it has packed must be unpacked to know what later heads mean (RFC 9113 §4.3).
MOST_UNPACKED_BYTES = 2 * MOST_HEAD_BYTES
# What a client may send for each head and each piece of a body that it gets: its small requests cost it nothing then.
_CREDIT = 2.0


class _Connection(H2Connection):
    # What is remembered of streams that have ended, 65,536 by default.
    MAX_CLOSED_STREAMS = 4 * MOST_STREAMS


class Http2Protocol(asyncio.Protocol):
    """A connection that began with the preface of HTTP/2."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = asyncio.get_running_loop()
        self._h2 = _Connection(H2Configuration(client_side=False, header_encoding=None))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                SettingCodes.MAX_FRAME_SIZE: MOST_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: MOST_HEAD_BYTES,
                SettingCodes.HEADER_TABLE_SIZE: TABLE_BYTES,
            },
        )
        self._h2.decoder.max_header_list_size = MOST_UNPACKED_BYTES
        self._toll = Toll(self._loop.time(), most_head_bytes=MOST_UNPACKED_BYTES)
        self._preface_left = len(PREFACE)
        self._exchanges: dict[int, Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writable = asyncio.Event()
        self._writable.set()
        self._last_stream = 0
        self._is_closing = False
        self._idling: TimerHandle | None = None
        self._transport: asyncio.Transport
        self._patience: Patience

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._patience = Patience(transport)
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._common = {
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "scheme": "http",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "root_path": self._config.root_path,
        }
        self._h2.initiate_connection()
        # One stream's body that nobody reads shall not keep the others' from coming.
        self._h2.increment_flow_control_window(MOST_STREAMS * WINDOW_BYTES - WINDOW_BYTES)
        self._flush()
        self._idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._is_closing = True
        self._patience.end()
        self._stop_idling()
        for exchange in self._exchanges.values():
            exchange.gone()
        self._exchanges.clear()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._patience.begin()
        # Nor is anything answered of a client that doesn't read.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._patience.end()
        self._writable.set()
        self._transport.resume_reading()

    def shutdown(self) -> None:
        """Take no more requests, and close when those that are there have been answered."""
        self._say_goodbye(ErrorCodes.NO_ERROR)
        self._close_if_done()

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        try:
            preface, self._preface_left = self._preface_left, max(self._preface_left - len(data), 0)
            self._toll.count(data[preface:], self._loop.time())
            events = self._h2.receive_data(data)
        except Oversize:
            self._fail(ErrorCodes.FRAME_SIZE_ERROR)
        except Excess:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM)
        except ProtocolError:
            self._flush()  # it has said why
            self._drop()
        else:
            for event in events:
                self._hear(event)
            self._flush()

    def _hear(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._start(event)
        elif isinstance(event, DataReceived):
            self._take_body(event)
        elif isinstance(event, StreamEnded):
            if exchange := self._exchanges.get(event.stream_id):
                exchange.body_ended()
        elif isinstance(event, StreamReset):
            if exchange := self._exchanges.pop(event.stream_id, None):
                exchange.gone()
        elif isinstance(event, ConnectionTerminated):
            self._drop()
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            if isinstance(event, RemoteSettingsChanged):
                self._h2.encoder.header_table_size = min(
                    self._h2.remote_settings.header_table_size, TABLE_BYTES
                )
            for exchange in self._exchanges.values():
                exchange.room_came()

    def _start(self, event: RequestReceived) -> None:
        stream = event.stream_id
        if self._is_closing or len(self._tasks) >= MOST_AT_WORK:
            self.reset(stream, ErrorCodes.REFUSED_STREAM)
            return
        self._last_stream = stream
        scope = scope_of(event.headers, {**self._common, "state": self._app_state.copy()})
        fault = fault_in(scope)
        self._stop_idling()
        exchange = self._exchanges[stream] = Exchange(stream, scope, self)
        app = self._config.loaded_app if fault is None else refusing(fault)
        task = self._loop.create_task(exchange.run(app))
        self._tasks.add(task)
        self._state.tasks.add(task)
        task.add_done_callback(lambda done: self._answered(done, stream))

    def _answered(self, task: asyncio.Task[None], stream: int) -> None:
        self._tasks.discard(task)
        self._state.tasks.discard(task)
        self._state.total_requests += 1
        self._exchanges.pop(stream, None)
        if not self._tasks:
            self._idle()
            self._close_if_done()

    def _take_body(self, event: DataReceived) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None:
            self.taken(event.stream_id, event.flow_controlled_length)
            return
        if padding := event.flow_controlled_length - len(event.data):
            self.taken(event.stream_id, padding)
        exchange.body_came(event.data)

    # What goes out, for the exchanges

    async def writable(self) -> None:
        await self._writable.wait()

    def send_head(self, stream: int, headers: Headers, *, ends: bool) -> None:
        self._h2.send_headers(stream, headers, end_stream=ends)
        self._toll.give(_CREDIT)
        self._flush()

    def send_body(self, stream: int, body: memoryview, *, ends: bool) -> int:
        """Send as much as one frame takes and the client has room for; return how much that is."""
        if not body:
            self._h2.end_stream(stream)
            self._flush()
            return 0
        room = min(self._h2.local_flow_control_window(stream), MOST_FRAME_BYTES)
        if room > 0:
            piece = body[:room]
            self._h2.send_data(stream, bytes(piece), end_stream=ends and len(piece) == len(body))
            self._toll.give(_CREDIT)
            self._flush()
        return min(max(room, 0), len(body))

    def taken(self, stream: int, size: int) -> None:
        """Let the client send so much more."""
        with suppress(ProtocolError):  # the stream has ended meanwhile
            self._h2.acknowledge_received_data(size, stream)
            self._flush()

    def reset(self, stream: int, code: ErrorCodes) -> None:
        with suppress(ProtocolError):
            self._h2.reset_stream(stream, code)
            self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # Ends

    def _idle(self) -> None:
        self._stop_idling()
        self._idling = self._loop.call_later(settings.GYOZA_STALLED_SECONDS, self.shutdown)

    def _stop_idling(self) -> None:
        if self._idling is not None:
            self._idling.cancel()
            self._idling = None

    def _close_if_done(self) -> None:
        if self._is_closing and not self._tasks:
            self._transport.close()

    def _say_goodbye(self, code: ErrorCodes) -> None:
        """Say which request is the last that is answered; `h2` would send nothing after that."""
        self._is_closing = True
        if not self._transport.is_closing():
            goodbye = GoAwayFrame(0, last_stream_id=self._last_stream, error_code=code)
            self._transport.write(goodbye.serialize())

    def _fail(self, code: ErrorCodes) -> None:
        self._say_goodbye(code)
        self._drop()

    def _drop(self) -> None:
        for exchange in self._exchanges.values():
            exchange.gone()
        self._exchanges.clear()
        self._transport.close()
