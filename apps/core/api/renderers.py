from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rest_framework.renderers import BaseRenderer

if TYPE_CHECKING:
    from collections.abc import Mapping

# Decimals are written as numbers; UUIDs and dates as strings; members keep their order. What it does not know, it asks
# `str` for (lazy translations of Django's messages).
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def encode(value: Any) -> bytes:
    """Write a value as compact JSON."""
    return _encoder.encode(value)


class JSONRenderer(BaseRenderer):
    """Writes compact JSON; the browsable pages ask for it indented."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        written = encode(data)
        indent = (renderer_context or {}).get("indent")
        return msgspec.json.format(written, indent=indent) if indent else written
