"""The two ends of a web process: what listens starts; streams are told, then what was opened is closed."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from apps.core import asyncdb
from apps.core.sse import hub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

log = logging.getLogger(__name__)

# This module is imported when a process sets up.
_started = time.monotonic()
_draining = False
_openers: list[Callable[[], None]] = []
_closers: list[Callable[[], Awaitable[None]]] = []


def uptime_ms() -> int:
    """Return for how many milliseconds this process has lived."""
    return int((time.monotonic() - _started) * 1000)


def is_draining() -> bool:
    """Say whether this process is about to end: streams say goodbye, readiness is refused."""
    return _draining


def drain() -> None:
    """Wake every stream and long poll so that they end; from the event loop."""
    global _draining
    _draining = True
    hub.current().wake_all()


def drain_on_signals() -> None:
    """Drain as soon as the process is told to end.

    ASGI servers say so to the application only when every response has ended, which streams never do by themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        server = signal.getsignal(number)
        if callable(server):
            signal.signal(number, partial(_drain_first, loop, server))


def _drain_first(
    loop: asyncio.AbstractEventLoop,
    server: Callable[[int, FrameType | None], Any],
    number: int,
    frame: FrameType | None,
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(drain)
    server(number, frame)


def on_open(opener: Callable[[], None]) -> None:
    """Have something done in the event loop when the process begins to serve."""
    if opener not in _openers:
        _openers.append(opener)


def on_close(closer: Callable[[], Awaitable[None]]) -> None:
    """Have something of the event loop closed when it ends, before the database pool; called in every loop that ends."""
    if closer not in _closers:
        _closers.append(closer)


async def close() -> None:
    """Close what this process has opened."""
    drain()
    await close_loop()


async def close_loop() -> None:
    """Close what the running event loop has opened; what fails to close doesn't keep the rest open."""
    for closer in (*_closers, hub.current().close, asyncdb.close):
        try:
            await closer()
        except Exception:
            log.exception("closing failed")


def reopen() -> None:
    """Be a process that serves, be it again (a second application in one process, as in tests)."""
    global _draining
    _draining = False
    for opener in _openers:
        opener()
