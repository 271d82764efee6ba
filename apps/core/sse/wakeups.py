"""Wake-ups: "there is something new on this channel", between processes by Redis, inside one directly.

A wake-up is a hint. Whoever waits has subscribed before it read, reads again when woken, and reads again anyway after
a while; so a lost message costs time, never data. One Redis message carries any number of channels, and one subscriber
per process serves all its waiters.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from django.db import connection, transaction
from redis.exceptions import RedisError

from apps.core import redis as core_redis
from apps.core.sse import hub as hubs
from apps.core.sse.hub import Hub
from apps.core.sse.subscription import BLIND_SECONDS, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Hub",
    "Subscription",
    "announce",
    "announce_on_commit",
    "announce_soon",
    "hub",
    "subscribe",
]

log = logging.getLogger(__name__)

_silent_until = 0.0


class _Announcement(dict[str, None]):
    """The channels that one transaction wakes when it has committed."""

    def __call__(self) -> None:
        announce(self)


def announce_on_commit(*channels: str) -> None:
    """Wake everyone who waits on these channels, here and elsewhere, once the transaction has committed.

    However often a transaction asks for it, one message goes out.
    """
    if not channels:
        return
    # Only one that is undone by the same savepoints: with it, these channels must vanish too, and without it they must not.
    present = set(connection.savepoint_ids)
    for savepoints, known, *_ in connection.run_on_commit:
        if isinstance(known, _Announcement) and savepoints == present:
            known.update(dict.fromkeys(channels))
            return
    transaction.on_commit(_Announcement(dict.fromkeys(channels)), robust=True)


def announce(channels: Iterable[str]) -> None:
    """Wake everyone who waits on these channels; from a thread, and only for what is committed."""
    global _silent_until
    names = tuple(channels)
    hubs.wake_everywhere(names)
    if time.monotonic() < _silent_until:
        return
    try:
        core_redis.client().publish(hubs.REDIS_CHANNEL, hubs.message(names))
    except (RedisError, OSError) as exc:
        _silent_until = time.monotonic() + BLIND_SECONDS
        log.warning("wake-ups reach this process only, Redis is away: %s", exc)


def subscribe(*channels: str) -> Subscription:
    """Listen to channels from here on: `with subscribe(…) as news: read(); await news.wait(timeout)`."""
    return Subscription(hub(), channels)


def announce_soon(*channels: str) -> None:
    """Do as `announce` from the event loop: at once here, and soon elsewhere, many in one message."""
    hub().announce(channels)


def hub() -> Hub:
    """Return the hub of the running event loop."""
    return hubs.current()
