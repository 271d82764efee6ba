"""A body that is refused before Django's middleware has seen the request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gyoza_site.asgi import application


def post(path: str, *headers: tuple[bytes, bytes]) -> tuple[int, dict[str, str]]:
    """Announce a body that is too long; return the status and the headers."""
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-length", b"99999999"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], {**found, "body": sent[1]["body"].decode()}


@pytest.mark.parametrize("headers", [(), ((b"x-correlation-id", b"mine"),)])
def test_it_is_found_by_its_correlation_id(headers):
    status, found = post("/api/v1/pipelines/", *headers)

    assert status == 413
    assert found["x-correlation-id"]
    assert f'"correlation_id": "{found["x-correlation-id"]}"' in found["body"]
    assert not headers or found["x-correlation-id"] == "mine"
