"""Who hears of an append besides readers that wait: whatever reads a topic after a cursor of its own.

The topic's `has_listeners` says that there is one; the append returns it, so a topic without listeners pays nothing. A
call is a hint: each listener keeps its cursor in a row and has a sweep that finds rows which are behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apps.core.sse import wakeups
from apps.topics.names import channel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


class Listener(NamedTuple):
    """How to call one kind of listener."""

    # From the event loop, with the topics that have grown; must not block.
    wake: Callable[[Collection[str]], None]
    # Inside a transaction that has appended: call once it is committed.
    nudge_on_commit: Callable[[], None]


_listeners: list[Listener] = []


def register(listener: Listener) -> None:
    """Have one kind of listener called from now on; at start."""
    if listener not in _listeners:
        _listeners.append(listener)


def tell(grown: Mapping[str, bool]) -> None:
    """Wake who waits for topics that have grown, and who listens to those that say so; as `wake`."""
    wakeups.announce_soon(*map(channel, grown))
    wake([topic for topic, has_listeners in grown.items() if has_listeners])


def wake(topics: Collection[str]) -> None:
    """Call whoever listens to topics that have grown; from the event loop, and only for what is committed."""
    if topics:
        for listener in _listeners:
            listener.wake(topics)


def nudge_on_commit() -> None:
    """Call whoever listens once the surrounding transaction has committed."""
    for listener in _listeners:
        listener.nudge_on_commit()
