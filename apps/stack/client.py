"""A complete client of the service in one screen: JSON over HTTP with the standard library."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

from django.conf import settings

JSON = dict[str, Any]

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104  compared only


class Refused(Exception):
    """The service said no, or nothing at all (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def base_url() -> str:
    """Return the service's URL as seen from this machine."""
    host = ANY_ADDRESS.get(settings.GYOZA_HOST, settings.GYOZA_HOST)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{settings.GYOZA_PORT}"


def get(path: str, *, timeout: float = 5) -> JSON:
    """Return the JSON behind a path; raises Refused."""
    return _send(urllib.request.Request(base_url() + path), timeout)  # noqa: S310  our own URL


def post(path: str, body: JSON, *, timeout: float = 10) -> JSON:
    """Post a JSON object and return the answer; raises Refused."""
    data = json.dumps(body).encode("utf-8")
    return _send(urllib.request.Request(base_url() + path, data=data), timeout)  # noqa: S310  our own URL


def put(path: str, body: JSON, *, timeout: float = 10) -> JSON:
    """Put a JSON object in the place of what is there and return the answer; raises Refused."""
    data = json.dumps(body).encode("utf-8")
    return _send(
        urllib.request.Request(base_url() + path, data=data, method="PUT"),  # noqa: S310  our own URL
        timeout,
    )


def _send(request: urllib.request.Request, timeout: float) -> JSON:
    request.add_header("Content-Type", "application/json")
    key = os.environ.get("GYOZA_API_KEY")
    if key:
        request.add_header("X-API-Key", key)
    # A proxy of the user's has no business between two processes of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as exc:
        with exc:
            raise Refused(
                exc.code, f"{request.get_method()} {request.selector}: {_reason(exc)}"
            ) from exc
    except (OSError, ValueError) as exc:
        raise Refused(0, f"{request.get_method()} {request.selector}: {exc}") from exc
    return answer if isinstance(answer, dict) else {}


def _reason(exc: urllib.error.HTTPError) -> str:
    """Return what is wrong, in either of the service's formats."""
    try:
        answer = json.load(exc)
        return (
            f"{exc.code} {answer['detail'] if 'detail' in answer else answer['error']['message']}"
        )
    except (ValueError, KeyError, TypeError):
        return f"{exc.code} {exc.reason}"
