"""What an event loop has just written, offered to those who wait for it there: they needn't ask Postgres.

An offer is a shortcut of the wake-up that follows it. Who can't use it reads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apps.topics.appending.batch import Placed, Record


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic that follow each other, committed."""

    topic_id: int
    first_seq: int
    ts: int
    records: Sequence[Record]


class Taker(Protocol):
    """Whoever waits for one topic's records."""

    def offer(self, batch: Batch) -> None: ...


_takers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Taker]] = WeakKeyDictionary()


def take(topic: str, taker: Taker) -> None:
    """Offer a topic's records to a taker from now on, in place of whoever had them."""
    _takers.setdefault(asyncio.get_running_loop(), {})[topic] = taker


def leave(topic: str, taker: Taker) -> None:
    """Offer it nothing more."""
    here = _takers.get(asyncio.get_running_loop(), {})
    if here.get(topic) is taker:
        del here[topic]


def offer(placed: Iterable[Placed], batches: dict[str, list[Record]]) -> None:
    """Offer what is committed to who waits for it; its wake-up follows."""
    here = _takers.get(asyncio.get_running_loop())
    if not here:
        return
    for topic in placed:
        taker = here.get(topic.name)
        if taker is not None:
            records = batches[topic.name]
            taker.offer(Batch(topic.topic_id, topic.first_seq, topic.ts, records))
