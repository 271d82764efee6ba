"""What an execution's tag may be: it stands where ids do, in paths, and in lists joined by commas. Pure."""

from __future__ import annotations

import re
from uuid import UUID

MOST = 255
RULE = f"must be 1–{MOST} characters, not a UUID, without slashes, commas and control characters"
_TAG = re.compile(r"[^/,\x00-\x1f\x7f]+")


def is_tag(text: str) -> bool:
    """Say whether an execution can have this tag."""
    return len(text) <= MOST and _TAG.fullmatch(text) is not None and not _is_uuid(text)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
