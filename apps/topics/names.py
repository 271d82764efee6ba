"""Names of topics and routers (topics v0 §5), and of the channel on which appends to a topic are announced."""

from __future__ import annotations

import re

_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,254}", re.ASCII)
_ROUTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:>-]{0,254}", re.ASCII)


def is_topic_name(name: str) -> bool:
    """Say whether a topic may be called that."""
    return _TOPIC.fullmatch(name) is not None


def can_be_looked_up(name: str) -> bool:
    """Say whether Postgres takes a name as text: a path may hold anything, U+0000 too."""
    return "\0" not in name


def is_router_name(name: str) -> bool:
    """Say whether a router may be called that."""
    return _ROUTER.fullmatch(name) is not None


def channel(topic: str) -> str:
    """Return the wake-up channel of appends to a topic."""
    return f"topic:{topic}"
