"""HTTP connections as the web process holds them: one whose client takes nothing is given up, one may become a socket, or speak HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from apps.core.asgi import socket_match
from apps.stack.connections.head import HeadProtocol
from apps.stack.connections.http2.protocol import PREFACE, Http2Protocol
from apps.stack.connections.patience import Patience

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class PatientProtocol(HeadProtocol):
    """Waits for a client that doesn't read, but not for ever.

    Nothing is sent while the socket is full, so such a client costs a bounded buffer and nobody else's time. A stream is
    resumed from its cursor.
    """

    _patience: Patience
    # What has come, as long as it may be the beginning of HTTP/2; None once that is decided.
    _opening: bytes | None = b""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience = Patience(transport)

    def data_received(self, data: bytes) -> None:
        if self._opening is not None:
            data = self._opening + data
            if PREFACE.startswith(data):
                self._opening = data
                if len(data) < len(PREFACE):
                    return
            self._opening = None
            if data.startswith(PREFACE):
                self._become_http2(data)
                return
        super().data_received(data)

    def _become_http2(self, data: bytes) -> None:
        self.connections.discard(self)
        self._stop_expecting()
        self._unset_keepalive_if_required()
        protocol = Http2Protocol(self.config, self.server_state, self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.begin()

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        super().connection_lost(exc)

    def _should_upgrade(self) -> bool:
        before: RequestResponseCycle | None = self.cycle
        # Elsewhere the wish is ignored, and the request answered as it is without; so it is behind a request that still waits.
        return (
            super()._should_upgrade()
            and self.parser.get_method() == b"GET"
            and (before is None or before.response_complete)
            and socket_match(unquote(self.url.partition(b"?")[0].decode("latin-1"))) is not None
        )
