"""Pages of other origins: which of them may read our answers, told to their browsers (CORS). None, unless the settings list some.

Cookies are never asked for: such a page has a key, or what everybody has, and not the session of whoever looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from apps.core.intake import Scope
    from apps.core.slim import Send

_PREFLIGHT = {
    b"access-control-allow-methods": b"GET, HEAD, POST, PUT, PATCH, DELETE",
    # Every header that a view reads and that a browser doesn't send by itself.
    b"access-control-allow-headers": b"authorization, x-api-key, content-type, idempotency-key, if-match, if-none-match,"
    b" last-event-id, range, x-correlation-id, x-stage",
    # What browsers keep it for at most.
    b"access-control-max-age": b"7200",
}
_READABLE = b"content-range, etag, location, retry-after, www-authenticate, x-correlation-id"


async def admit(scope: Scope, send: Send) -> Send | None:
    """Return how to answer a request so that a page of an admitted origin may read it; None if it was only a question."""
    if not settings.GYOZA_CORS_ORIGINS:
        return send
    asked = {name: value for name, value in scope["headers"] if name in _ASKED}
    allowed = _allowed(asked.get(b"origin"))
    if allowed and scope["method"] == "OPTIONS" and b"access-control-request-method" in asked:
        headers = [*_told(allowed), *_PREFLIGHT.items()]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return None
    told = [*_told(allowed), (b"access-control-expose-headers", _READABLE)] if allowed else [_VARY]

    async def tell(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *told]}
        await send(message)

    return tell


def _allowed(origin: bytes | None) -> bytes | None:
    if origin is None:
        return None
    if "*" in settings.GYOZA_CORS_ORIGINS:
        return b"*"
    return origin if origin.decode("latin-1") in settings.GYOZA_CORS_ORIGINS else None


def _told(allowed: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"access-control-allow-origin", allowed), _VARY]


_ASKED = frozenset({b"origin", b"access-control-request-method"})
# What a cache keeps for one origin is not for another.
_VARY = (b"vary", b"Origin")
