"""Answers to requests that no view ever sees, in the dialect of their path."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from apps.core import correlation
from apps.core.api import exception_handler
from apps.core.headers import ScopeHeaders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from apps.core.errors import GyozaError

    Application = Callable[[Mapping[str, Any], Any, Any], Awaitable[None]]

_NO_HEADERS = ScopeHeaders([])


class Refusal(NamedTuple):
    """An answer that is complete."""

    status: int
    headers: dict[str, str]
    content: bytes

    def over_http_1(self) -> bytes:
        """Return it as the last answer on a connection."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            "connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.content


def refusal(
    error: GyozaError | None, *, path: str, headers: Mapping[str, str] = _NO_HEADERS
) -> Refusal:
    """Return what a request to this path is told, which came with these headers; of None, that it is a bug of ours."""
    problem = error and exception_handler.problem_of(error)
    with correlation.bound(correlation.choose(headers)) as correlation_id:
        status, body, more = exception_handler.rendered(
            path, problem or exception_handler.internal()
        )
    content = msgspec.json.encode(body)
    told = {
        "content-type": "application/json",
        "content-length": str(len(content)),
        correlation.HEADER.lower(): correlation_id,
        **{name.lower(): value for name, value in more.items() if name != "Connection"},
    }
    return Refusal(status, told, content)


def refusing(error: GyozaError | None) -> Application:
    """Return an application that tells of an error; of None, that the real one has failed."""

    async def refuse(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        told = refusal(error, path=scope["path"], headers=ScopeHeaders(scope["headers"]))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in told.headers.items()]
        await send({"type": "http.response.start", "status": told.status, "headers": headers})
        await send({"type": "http.response.body", "body": told.content})

    return refuse
