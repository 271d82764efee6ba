"""HTTP connections as the web process holds them: one whose client takes nothing is given up, one may become a socket."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from apps.core.asgi import socket_match
from apps.stack.head import HeadProtocol
from apps.stack.patience import Patience


class PatientProtocol(HeadProtocol):
    """Waits for a client that doesn't read, but not for ever.

    Nothing is sent while the socket is full, so such a client costs a bounded buffer and nobody else's time. A stream is
    resumed from its cursor.
    """

    _patience: Patience

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._patience = Patience(transport)

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
        # Elsewhere the wish is ignored, and the request answered as it is without.
        return (
            super()._should_upgrade()
            and self.scope["method"] == "GET"
            and socket_match(unquote(self.url.partition(b"?")[0].decode("latin-1"))) is not None
        )
