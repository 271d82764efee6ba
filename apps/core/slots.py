"""How many requests are under way in this process, in all and of one key (topics v0 §4.2)."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings

from apps.core.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

# Of the data plane, of the control plane, and by key.
_DATA, _CONTROL = "data", "control"
_under_way: Counter[UUID | str] = Counter()


@contextmanager
def held(key: UUID | None) -> Iterator[None]:
    """Hold a place in the data plane during the block, and one of a key's; raises Throttled if they are taken."""
    with _one_of(_DATA, settings.GYOZA_MAX_INFLIGHT, "max_inflight"):
        if key is None:
            yield
            return
        with _one_of(key, settings.GYOZA_MAX_INFLIGHT_PER_KEY, "max_inflight_per_key"):
            yield


@contextmanager
def held_for_thread() -> Iterator[None]:
    """Hold a place in the control plane during the block, waiting for a thread or having one; raises Throttled."""
    with _one_of(_CONTROL, settings.GYOZA_MAX_INFLIGHT, "max_inflight"):
        yield


@contextmanager
def _one_of(key: UUID | str, most: int, limit: str) -> Iterator[None]:
    if most and _under_way[key] >= most:
        raise Throttled("too many requests at once", limit=limit, max=most)
    _under_way[key] += 1
    try:
        yield
    finally:
        _under_way[key] -= 1
        if not _under_way[key]:
            del _under_way[key]
