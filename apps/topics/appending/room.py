"""What a topic that rejects has room for (topics v0 §8.3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from apps.core.errors import Throttled
from apps.topics.errors import RecordTooLarge, TopicFull
from apps.topics.states import Discard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apps.core.errors import GyozaError


@dataclass(slots=True)
class Room:
    """The caps of a topic and what it holds; one that discards the old takes anything. A cap of 0 is none."""

    rejects: bool
    cap_records: int
    cap_bytes: int
    records: int
    bytes: int

    @classmethod
    def of(cls, topic: Mapping[str, Any]) -> Self:
        """Read it from a topic's columns."""
        return cls(
            rejects=topic["discard"] == Discard.REJECT,
            cap_records=int(topic["cap_records"]),
            cap_bytes=int(topic["cap_bytes"]),
            records=topic["count"],
            bytes=topic["bytes"],
        )

    def can_never_take(self, records: int, size: int) -> bool:
        """Say whether so much is refused even when the topic is empty."""
        return self.rejects and (0 < self.cap_records < records or 0 < self.cap_bytes < size)

    def is_full_for(self, records: int, size: int) -> bool:
        """Say whether so much doesn't fit beside what is there."""
        return self.rejects and (
            0 < self.cap_records < self.records + records or 0 < self.cap_bytes < self.bytes + size
        )

    def take(self, records: int, size: int) -> None:
        """Count what is being written."""
        self.records += records
        self.bytes += size


def refusal(topic: Mapping[str, Any], records: int, size: int) -> GyozaError | None:
    """Return why a topic, by its columns, does not take so much at once; None if it does."""
    room = Room.of(topic)
    if room.can_never_take(records, size):
        return RecordTooLarge(f"{topic['name']} can never hold that much", topic=topic["name"])
    return TopicFull.of(topic) if room.is_full_for(records, size) else None


def refusal_of_all(size: int, *, left: int | None, most: int) -> GyozaError | None:
    """Return why the log does not take so many bytes more of the `most` it may hold; None if it does, or has no limit."""
    if left is None or size <= left:
        return None
    return Throttled("the log is full", limit="max_total_bytes", max=most)
