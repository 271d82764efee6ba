"""Answering a POST that creates, once per Idempotency-Key (runs.md §2)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Protocol

from drf_spectacular.utils import OpenApiParameter
from rest_framework.response import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.request import Request

Answer = tuple[int, Any]

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="1–256 bytes, remembered 24 h."
)


class Once(Protocol):
    """`access.services.once`."""

    def __call__(
        self,
        *,
        caller: Any,
        key: str | None,
        fingerprint: bytes,
        create: Callable[[], Answer],
    ) -> tuple[int, Any, bool]: ...


def answer_once(request: Request, *, once: Once, create: Callable[[], Answer]) -> Response:
    """Answer with what `create` makes, or with what it made when this Idempotency-Key was first used."""
    key = request.headers.get("Idempotency-Key")
    status, body, replayed = once(
        caller=request.auth,
        key=key,
        fingerprint=b"" if key is None else _fingerprint(request),
        create=create,
    )
    return Response(body, status, headers={"Idempotent-Replay": "true"} if replayed else None)


def _fingerprint(request: Request) -> bytes:
    said = [request.method, request.get_full_path(), request.data]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()
