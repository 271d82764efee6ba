"""The media type of an object, as `Content-Type` says it (RFC 9110 §8.3.1)."""

from __future__ import annotations

import re

MAX_BYTES = 255
RULE = f"must be a media type of at most {MAX_BYTES} bytes"

_TYPE = re.compile(
    r"[\w!#$&^.+-]+/[\w!#$&^.+-]+([ \t]*;[ \t]*[\w!#$&^.+-]+=(\"[^\"\\\x00-\x1f\x7f]*\"|[\w!#$&^.+-]+))*",
    re.ASCII,
)


def is_media_type(text: str) -> bool:
    """Say whether a text is a media type, so that a header can say it."""
    return len(text) <= MAX_BYTES and _TYPE.fullmatch(text) is not None
