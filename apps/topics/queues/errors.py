"""What queues refuse beside what topics v0 names."""

from __future__ import annotations

from apps.core.errors import Conflict


class NoDeadLetters(Conflict):
    """The queue names no dead-letter topic."""

    code = "no_dead_letters"

    @classmethod
    def of(cls, queue: str) -> NoDeadLetters:
        """Build the error that names the queue."""
        return cls(f'the queue "{queue}" names no dead-letter topic', topic=queue)
