"""How long a connection is waited for whose client takes nothing (topics v0 ⚑36)."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport


class Patience:
    """Gives a connection up when its client has taken nothing for a while; whoever reads, be it slowly, is waited for.

    Closing would wait until the client has read what was sent, so the connection is aborted.
    """

    __slots__ = ("_judging", "_transport", "_untaken")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._judging: TimerHandle | None = None
        self._untaken = 0
        link: socket.socket | None = transport.get_extra_info("socket")
        if link is not None and link.family in (socket.AF_INET, socket.AF_INET6):
            # What has vanished without a word never answers: the kernel would ask it for a quarter of an hour.
            link.setsockopt(
                socket.IPPROTO_TCP,
                socket.TCP_USER_TIMEOUT,
                int(settings.GYOZA_STALLED_SECONDS * 1000),
            )

    def begin(self) -> None:
        """Wait from now on: the client has much to take."""
        self._untaken = self._transport.get_write_buffer_size()
        self._judging = asyncio.get_running_loop().call_later(
            settings.GYOZA_STALLED_SECONDS, self._judge
        )

    def end(self) -> None:
        """Wait no longer: it has taken most of it, or is gone."""
        if self._judging is not None:
            self._judging.cancel()
            self._judging = None

    def _judge(self) -> None:
        if self._transport.get_write_buffer_size() < self._untaken:
            self.begin()
        else:
            self._transport.abort()
