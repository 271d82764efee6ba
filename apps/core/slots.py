"""How many requests of one key are under way in this process (topics v0 §4.2)."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings

from apps.core.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

_under_way: Counter[UUID] = Counter()


@contextmanager
def held(key: UUID | None) -> Iterator[None]:
    """Hold one of a key's slots during the block; raises Throttled if all are taken. No key, no limit."""
    most = settings.GYOZA_MAX_INFLIGHT_PER_KEY
    if key is None or not most:
        yield
        return
    if _under_way[key] >= most:
        raise Throttled("too many requests at once", limit="max_inflight_per_key", max=most)
    _under_way[key] += 1
    try:
        yield
    finally:
        _under_way[key] -= 1
        if not _under_way[key]:
            del _under_way[key]
