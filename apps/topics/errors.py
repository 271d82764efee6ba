"""What the log refuses, by the codes of topics v0 §2.5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core.errors import Conflict, Invalid, NotFound, Unavailable, Unprocessable

if TYPE_CHECKING:
    from collections.abc import Mapping


class TopicNotFound(NotFound):
    """There is no such topic."""

    code = "topic_not_found"

    @classmethod
    def of(cls, topic: str) -> TopicNotFound:
        """Build the error that names the topic."""
        return cls(f'no topic named "{topic}"', topic=topic)


class BatchTooLarge(Invalid):
    """Too many records in one request."""

    code = "batch_too_large"


class RecordTooLarge(Invalid):
    """A record is larger than any may be, or a write larger than its topic."""

    code = "record_too_large"


class TopicFull(Unprocessable):
    """The topic rejects what doesn't fit, and there is no room left."""

    code = "topic_full"

    @classmethod
    def of(cls, topic: Mapping[str, Any]) -> TopicFull:
        """Build the error that tells the caps, from a topic's columns."""
        return cls(
            f"{topic['name']} has no room left",
            topic=topic["name"],
            cap_records=int(topic["cap_records"]),
            cap_bytes=int(topic["cap_bytes"]),
            head_seq=topic["head"],
            earliest_seq=topic["earliest"],
        )


class TopicExists(Conflict):
    """There is a topic of this name."""

    code = "topic_exists"


class TopicExistsIncompatible(Conflict):
    """The topic exists as another kind."""

    code = "topic_exists_incompatible"


class TopicNotEmpty(Conflict):
    """The topic still has records."""

    code = "topic_not_empty"


class NotAQueue(Conflict):
    """The topic is a log."""

    code = "not_a_queue"

    @classmethod
    def of(cls, topic: str) -> NotAQueue:
        """Build the error that names the topic."""
        return cls(f'"{topic}" is a log', topic=topic)


class NotReady(Unavailable):
    """The log can't be served yet."""

    code = "not_ready"


class ShuttingDown(Unavailable):
    """This process is ending."""

    code = "shutting_down"
