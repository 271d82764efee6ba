"""HTTP connections as the web process holds them: one whose client takes nothing is given up."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.stack.head import HeadProtocol

if TYPE_CHECKING:
    import asyncio


class PatientProtocol(HeadProtocol):
    """Waits for a client that doesn't read, but not for ever (topics v0 ⚑36).

    Nothing is sent while the socket is full, so such a client costs a bounded buffer and nobody else's time. Closing
    would wait until it has read that buffer; so the connection is aborted. A stream is resumed from its cursor.
    """

    _judging: asyncio.TimerHandle | None = None
    _untaken = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        link = transport.get_extra_info("socket")
        if link is not None and link.family in (socket.AF_INET, socket.AF_INET6):
            # What has vanished without a word never answers: the kernel would ask it for a quarter of an hour.
            link.setsockopt(
                socket.IPPROTO_TCP,
                socket.TCP_USER_TIMEOUT,
                int(settings.GYOZA_STALLED_SECONDS * 1000),
            )

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._untaken = self.transport.get_write_buffer_size()
        self._judging = self.loop.call_later(settings.GYOZA_STALLED_SECONDS, self._judge)

    def _judge(self) -> None:
        # Whoever reads, be it slowly, is waited for.
        if self.transport.get_write_buffer_size() < self._untaken:
            self._wait()
        else:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._judging is not None:
            self._judging.cancel()
            self._judging = None
