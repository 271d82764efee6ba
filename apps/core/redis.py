"""The process's Redis client. What is in Redis is a hint: it may vanish at any moment."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import redis
from django.conf import settings

if TYPE_CHECKING:
    from redis import Redis


@cache
def client() -> Redis:
    """Return the shared client; connections are pooled, and one that hangs fails after 2 s."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, health_check_interval=30
    )
