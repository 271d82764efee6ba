"""What storage refuses, by its codes."""

from __future__ import annotations

from typing import Any

from apps.core.errors import Conflict, NotFound, OutOfRoom, Unavailable


class ObjectNotFound(NotFound):
    """There is no such object, or not for you."""

    code = "object_not_found"


class ExecutionNotFound(NotFound):
    """There is no such execution, or not for you."""

    code = "execution_not_found"


class ExecutionEnded(Conflict):
    """The execution has ended: nothing is written under it any more."""

    code = "execution_ended"


class QuotaExceeded(OutOfRoom):
    """The execution has no room left."""

    code = "storage_quota_exceeded"


class StreamerUnavailable(Unavailable):
    """The log of storage events is away, or the bus that tells of them."""

    code = "storage_event_streamer_unavailable"

    def __init__(
        self, message: str = "Storage event streamer not available", **detail: Any
    ) -> None:
        super().__init__(message, **detail)
