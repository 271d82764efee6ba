"""The id that ties a request to its log lines: the caller's own if it is sane, else a new one."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from apps.core import ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.http import HttpRequest, HttpResponseBase

HEADER = "X-Correlation-ID"
_ACCEPTED = (HEADER, "X-Request-ID")
# Printable and short, so that it can't forge a log line or a header.
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)

_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def current() -> str | None:
    """Return the id of the request being served; None outside of one."""
    return _current.get()


def choose(headers: Mapping[str, str]) -> str:
    """Return the caller's id if it sent a sane one, else a new one."""
    for name in _ACCEPTED:
        given = headers.get(name)
        if given is not None and _SANE.fullmatch(given):
            return given
    return ids.uuid7().hex


@contextmanager
def bound(correlation_id: str) -> Iterator[str]:
    """Make this the current id until the block ends."""
    token = _current.set(correlation_id)
    try:
        yield correlation_id
    finally:
        _current.reset(token)


class CorrelationMiddleware:
    """Binds the id for the time of the request and echoes it."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self._call_async(request)
        with bound(choose(request.headers)) as correlation_id:
            response: HttpResponseBase = self.get_response(request)
            response[HEADER] = correlation_id
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        with bound(choose(request.headers)) as correlation_id:
            response: HttpResponseBase = await self.get_response(request)
            response[HEADER] = correlation_id
        return response
