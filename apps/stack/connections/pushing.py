"""Parts of an answer that streams, written without a task of their own (ASGI extension `gyoza.push`)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from apps.core.sse.outlet import EXTENSION

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class PushingProtocol(HttpToolsProtocol):
    """Offers each request the extension."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            self.scope["extensions"] = {EXTENSION: {"push": partial(_push, cycle)}}


def _push(cycle: RequestResponseCycle, part: bytes) -> bool:
    """Write a part of an answer whose end is not known, unless the client is behind or has gone."""
    if (
        cycle.flow.write_paused
        or cycle.disconnected
        or cycle.response_complete
        or not (cycle.response_started and cycle.chunked_encoding)
    ):
        return False
    cycle.transport.write(b"%x\r\n%b\r\n" % (len(part), part))
    return True
