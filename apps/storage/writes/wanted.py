"""What is to be written: an object, under which condition, with which content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.core import correlation
from apps.core.errors import PreconditionFailed

if TYPE_CHECKING:
    from uuid import UUID

    from apps.storage.models import Object

JSON = Any


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be so of the object that there is, or nothing is changed (RFC 9110 §13.1)."""

    # There is none (If-None-Match: *).
    is_absent: bool = False
    # It has one of these etags, or any with "*" (If-Match); None = whatever it has.
    etags: frozenset[str] | None = None

    def check(self, existing: Object | None, key: str) -> None:
        """Raise PreconditionFailed unless it holds."""
        if self.is_absent and existing is not None:
            raise PreconditionFailed(f"Object {key} exists", key=key)
        if self.etags is None or (existing is not None and self.etags & {"*", existing.etag}):
            return
        raise PreconditionFailed(f"Object {key} is not the one that was named", key=key)


UNCONDITIONAL = Condition()


@dataclass(frozen=True, slots=True)
class NewObject:
    """What is said of an object to be written; `name` is its key without the execution."""

    name: str
    stage: str
    content_type: str
    metadata: dict[str, JSON] = field(default_factory=dict)
    run_id: UUID | None = None
    only_if: Condition = UNCONDITIONAL


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Content that is in the backend and belongs to no object yet."""

    blob: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Attachment:
    """Uploaded content that is to be an object."""

    space_id: UUID
    new: NewObject
    uploaded: Uploaded
    # Of the request that asks for it, whoever carries it out.
    correlation_id: str | None = field(default_factory=correlation.current)


@dataclass(frozen=True, slots=True)
class Attached:
    """An object as it was written, and the blob that it had before."""

    stored: Object
    replaced: str | None
