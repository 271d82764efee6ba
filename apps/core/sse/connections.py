"""How many streams and sockets are open, and how many may be (topics v0 §4.2): for every stream of the product."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from django.conf import settings

from apps.core.errors import Throttled
from apps.core.sse.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from uuid import UUID

_open: Counter[UUID | None] = Counter()
# Those that end with the key that opened them; None = opened while there was no key.
_of_key: dict[UUID | None, set[Lasting]] = {}


def count() -> int:
    """Return how many streams and sockets this process has open."""
    return _open.total()


@contextmanager
def held(key: UUID | None) -> Iterator[None]:
    """Count a connection of a key during the block; raises Throttled if there are too many. No key, no cap per key."""
    release = _take(key)
    try:
        yield
    finally:
        release()


def admit(response: object, key: UUID | None, *, ends_with_key: bool = False) -> None:
    """Count a stream or socket until its answer has ended; raises Throttled if there are too many. Other answers don't count."""
    if not isinstance(response, Lasting):
        return
    # Of a watch, the key that made its session: whoever opens it has presented that one.
    owner = response.charged_to or key
    try:
        response.on_release(_take(owner))
    except Throttled:
        response.close()
        raise
    if ends_with_key or response.charged_to is not None:
        streams = _of_key.setdefault(owner, set())
        streams.add(response)
        response.on_release(partial(streams.discard, response))


def any_ends_with_a_key() -> bool:
    """Say whether there is a stream that would have to end if its key did."""
    return any(_of_key.values())


def end_all_but(keys: Collection[UUID | None]) -> None:
    """End the streams that were opened with any other key: it has been revoked, or has expired; from any thread."""
    for key in [key for key in list(_of_key) if key not in keys]:
        for stream in list(_of_key.pop(key)):
            stream.end()


def _take(key: UUID | None) -> Callable[[], None]:
    most = settings.GYOZA_MAX_STREAMS
    if most and count() >= most:
        raise Throttled("too many streams are open", limit="max_sse_connections", max=most)
    most = settings.GYOZA_MAX_STREAMS_PER_KEY
    if key is not None and most and _open[key] >= most:
        raise Throttled(
            "too many streams of this key are open", limit="max_sse_connections_per_key", max=most
        )
    _open[key] += 1

    def release() -> None:
        _open[key] -= 1
        if not _open[key]:
            del _open[key]

    return release
