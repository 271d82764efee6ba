"""The end of a web process: streams are told, then what was opened is closed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from apps.core import asyncdb
from apps.core.sse import hub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

_draining = False
_closers: list[Callable[[], Awaitable[None]]] = []


def is_draining() -> bool:
    """Say whether this process is about to end: streams say goodbye, readiness is refused."""
    return _draining


def drain() -> None:
    """Wake every stream and long poll so that they end; from the event loop."""
    global _draining
    _draining = True
    hub.current().wake_all()


def on_close(closer: Callable[[], Awaitable[None]]) -> None:
    """Have something of the event loop closed when the process ends, before the database pool."""
    if closer not in _closers:
        _closers.append(closer)


async def close() -> None:
    """Close what this process has opened; what fails to close doesn't keep the rest open."""
    drain()
    for closer in (*_closers, hub.current().close, asyncdb.close):
        try:
            await closer()
        except Exception:
            log.exception("closing failed")


def reopen() -> None:
    """Be a process that serves again; for a second application in one process, as in tests."""
    global _draining
    _draining = False
