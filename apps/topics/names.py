"""Names of topics and routers (topics v0 §5), and of the channel on which appends to a topic are announced."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from apps.core.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Sequence

RESERVED = "system."
MAX_NAME_LENGTH = 255
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}", re.ASCII)
_ROUTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:>-]{0,254}", re.ASCII)
# Behind every name that begins with a prefix, since names are ASCII without it.
_BEHIND = "\x7f"


def is_topic_name(name: str) -> bool:
    """Say whether a topic may be called that."""
    return _TOPIC.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Say whether only the service itself writes to topics called that: what they tell must be what has happened."""
    return name.startswith(RESERVED)


def require_unreserved(name: str) -> None:
    """Raise Forbidden for a topic that only the service writes to."""
    if is_reserved(name):
        raise Forbidden(f'topics called "{RESERVED}…" are written by the service alone', topic=name)


def can_be_looked_up(name: str) -> bool:
    """Say whether Postgres takes a name as text: a path may hold anything, U+0000 too."""
    return "\0" not in name


def is_router_name(name: str) -> bool:
    """Say whether a router may be called that."""
    return _ROUTER.fullmatch(name) is not None


def channel(topic: str) -> str:
    """Return the wake-up channel of appends to a topic."""
    return f"topic:{topic}"


def name_ranges(prefix: str, prefixes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the ranges [low, high) of names that begin with `prefix` and with one of `prefixes`, if there are any.

    They don't overlap, so that an index serves them one by one.
    """
    wanted = {prefix}
    if prefixes:
        wanted = {max(prefix, one, key=len) for one in prefixes if _agree(prefix, one)}
    ranges: list[tuple[str, str]] = []
    for low in sorted(wanted):
        # No name has other characters, and Postgres takes no NUL.
        if not low.isascii() or not low.isprintable():
            continue
        if not ranges or not low.startswith(ranges[-1][0]):
            ranges.append((low, low + _BEHIND))
    return ranges


def _agree(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
