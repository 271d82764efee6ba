"""The ASGI application: the data plane by the slim handler, everything else by Django in one pool of threads.

Which view belongs where is said by the view itself (`core.dataplane.View`), nowhere else.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from django.conf import settings
from django.urls import Resolver404, get_resolver, resolve

from apps.core import cors, lifespan, memory, slim, websocket
from apps.core.threaded import ThreadedDjango

if TYPE_CHECKING:
    from django.urls import ResolverMatch

    from apps.core.intake import Receive, Scope
    from apps.core.slim import Send

# Below it a slash is never part of a name, so one that is sent as %2F parts no segments (topics v0 §2.1).
_NAMES = "/v0/"
# Longer paths are resolved each time. A topic's name of 255 bytes and what is around it is shorter.
_MOST_KNOWN = 512


class Application:
    """Routes each request to the handler of its view."""

    def __init__(self) -> None:
        self._django = ThreadedDjango()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            answer = await cors.admit(scope, send)
            if answer is not None:
                raw_path: bytes = scope.get("raw_path") or b""
                if scope["path"].startswith(_NAMES) and b"%2f" in raw_path.lower():
                    scope = {**scope, "path": _with_slashes_encoded(raw_path)}
                await self._serve(scope, receive, answer)
        else:
            await websocket.serve(socket_match(scope["path"]), scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _data_plane_match(scope["path"], settings.ROOT_URLCONF)
        if match is None:
            await self._django(scope, receive, send)
        else:
            await slim.serve(match, scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                lifespan.reopen()
                lifespan.drain_on_signals()
                # The first request would load it, after the collector has been told what stays.
                _ = get_resolver(settings.ROOT_URLCONF).url_patterns
                memory.settle()
                await send({"type": "lifespan.startup.complete"})
            else:
                await lifespan.close()
                await asyncio.to_thread(self._django.close)
                await send({"type": "lifespan.shutdown.complete"})
                return


def socket_match(path: str) -> ResolverMatch | None:
    """Return the view at a path that takes WebSockets, if there is one."""
    match = _data_plane_match(path, settings.ROOT_URLCONF)
    view = None if match is None else match.func.view_class  # type: ignore[attr-defined]
    return match if view is not None and view.commands else None


def _with_slashes_encoded(raw_path: bytes) -> str:
    """Decode a path but for the slashes within its segments: `a%2Fdelete` must not come to mean `a/delete`."""
    segments = raw_path.decode("latin-1").split("/")
    return "/".join([unquote(segment).replace("/", "%2F") for segment in segments])


def _data_plane_match(path: str, urlconf: str) -> ResolverMatch | None:
    # Anybody may send any path: what is kept of them must be little.
    return (_known_match if len(path) <= _MOST_KNOWN else _find_match)(path, urlconf)


@lru_cache(maxsize=8192)
def _known_match(path: str, urlconf: str) -> ResolverMatch | None:
    return _find_match(path, urlconf)


def _find_match(path: str, urlconf: str) -> ResolverMatch | None:
    try:
        match = resolve(path, urlconf)
    except Resolver404:
        return None  # Django answers it, in the path's dialect
    return match if getattr(match.func, "data_plane", False) else None
