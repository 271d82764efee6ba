"""Writes: spaces are opened and closed with their executions; objects are stored, replaced and deleted.

Lock order: execution → space → event clock → topic.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from django.db import transaction

from apps.access import services as access
from apps.core import clock, sql
from apps.storage import attempts, events, keys, queries
from apps.storage.errors import ObjectNotFound
from apps.storage.incoming import Incoming, check_length
from apps.storage.models import Object, Space
from apps.storage.writes import ledger
from apps.storage.writes.uploads import InMemory, discard, upload, upload_bytes
from apps.storage.writes.wanted import UNCONDITIONAL, Attachment, Condition, NewObject, Uploaded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.storage.attempts import ExecutionsOf
    from apps.storage.keys import Key
    from apps.storage.writes.uploads import Content

__all__ = [
    "Condition",
    "NewObject",
    "NewSpace",
    "Uploaded",
    "admit_write",
    "attach",
    "check_length",
    "close_spaces",
    "delete_object",
    "discard",
    "expect_write",
    "file_of_stage",
    "gathered",
    "let_read",
    "open_spaces",
    "put_object",
    "register_runs",
    "reopen_space",
    "upload",
    "upload_bytes",
]


@dataclass(frozen=True, slots=True)
class NewSpace:
    """The storage of an execution to be made."""

    execution_id: UUID
    tag: str | None
    visible_as: str
    correlation_id: str = ""


def register_runs(*, executions_of: ExecutionsOf) -> None:
    """Have somebody who knows runs asked from now on which executions the tokens of runs stand for; at start."""
    attempts.register(executions_of)


# --- spaces -------------------------------------------------------------------------------------


def open_spaces(new: Sequence[NewSpace]) -> None:
    """Open the storage of new executions, in the transaction that makes them."""
    sql.run_bound(
        "storage/insert_spaces",
        executions=[one.execution_id for one in new],
        tags=[one.tag for one in new],
        visible_as=[one.visible_as for one in new],
        correlation_ids=[one.correlation_id for one in new],
        now=clock.now(),
    )


def close_spaces(execution_ids: Collection[UUID]) -> None:
    """Close the storage of executions, in the transaction that ends them.

    Waits for those who are writing, whose events are then in the log; who comes later is refused.
    """
    sql.run_bound("storage/close_spaces", executions=list(execution_ids), now=clock.now())
    events.announce_ends(execution_ids)


def reopen_space(execution_id: UUID) -> None:
    """Open the storage of an execution that goes on, in the transaction that lets it."""
    Space.objects.filter(pk=execution_id).update(closed_at=None)
    events.announce_ends([execution_id])


def let_read(execution_id: UUID, executions: Collection[UUID]) -> None:
    """Let the ops of an execution read what others have stored, in the transaction that makes it."""
    Space.objects.filter(pk=execution_id).update(reads=sorted(executions))


# --- objects ------------------------------------------------------------------------------------


def admit_write(*, key: Key, caller: Caller) -> Space:
    """Return the space that a caller may write to. Raises ExecutionNotFound, Forbidden, ExecutionEnded."""
    space = queries.get_space_to_change(named=key.execution, caller=caller)
    ledger.require_open(space)
    return space


def expect_write(*, key: Key, caller: Caller, length: int, only_if: Condition) -> None:
    """Refuse a large write before its content has come, as `put_object` would once it has.

    Raises ExecutionNotFound, ExecutionEnded, PreconditionFailed, QuotaExceeded.
    """
    space = admit_write(key=key, caller=caller)
    existing = Object.objects.filter(space=space, name=key.name).first()
    only_if.check(existing, f"{space.pk}/{key.name}")
    ledger.require_room(space, existing, length)


@contextmanager
def gathered(pieces: Iterator[bytes]) -> Iterator[Content]:
    """Lend content that comes in pieces: in memory if it is only one, else in a file of this machine.

    Raises TooLarge, OutOfRoom, Unavailable.
    """
    first, second = next(pieces, b""), next(pieces, None)
    if second is None:
        yield InMemory(first)
        return
    with Incoming() as content:
        for piece in chain((first, second), pieces):
            content.add(piece)
        yield content


def file_of_stage(*, stage: str, path: str, run_id: UUID | None) -> NewObject:
    """Return what is said of a file that a step has left below its stage; its type is told by its name."""
    return NewObject(
        name=f"{stage}/{path}",
        stage=stage,
        content_type=keys.type_of(path),
        run_id=run_id,
    )


def put_object(
    *,
    execution_id: UUID,
    new: NewObject,
    content: Content,
    first: Callable[[], None] | None = None,
) -> tuple[Object, bool]:
    """Store an object, durable on return, and say whether it is a new one; a crash leaves the old one or the new one.

    `first` begins its transaction: it takes locks that come before that of the space, and raises what forbids the write.

    Raises Invalid, ExecutionNotFound, ExecutionEnded, PreconditionFailed, QuotaExceeded, OutOfRoom, Unavailable. Not
    within a transaction: see `upload` and `attach`.
    """
    keys.check_name(new.name)
    uploaded = upload(content)
    try:
        with transaction.atomic(durable=True):
            if first is not None:
                first()
            stored, replaced = attach(execution_id=execution_id, new=new, uploaded=uploaded)
    except BaseException:
        discard(uploaded.blob)
        raise
    if replaced is not None:
        discard(replaced)
    return stored, replaced is None


def attach(*, execution_id: UUID, new: NewObject, uploaded: Uploaded) -> tuple[Object, str | None]:
    """Make uploaded content an object and tell it, as the last step of the caller's transaction.

    Returns the object, and the blob it had before, which the caller discards after commit. Raises ExecutionNotFound,
    ExecutionEnded, PreconditionFailed, QuotaExceeded, Unavailable.
    """
    # What fails here fails as a whole, with what the caller has done besides.
    with transaction.atomic(savepoint=False):
        attached = ledger.attach_one(Attachment(execution_id, new, uploaded))
    return attached.stored, attached.replaced


def delete_object(*, key: Key, caller: Caller, only_if: Condition = UNCONDITIONAL) -> Object:
    """Delete an object and tell it; durable on return.

    Raises ExecutionNotFound, Forbidden, ObjectNotFound, PreconditionFailed.
    """
    space = queries.get_space_to_change(named=key.execution, caller=caller)
    with transaction.atomic():
        space = ledger.lock_space(space.pk)
        found = Object.objects.filter(space=space, name=key.name).first()
        if found is None:
            raise ObjectNotFound(f"Object {key.execution}/{key.name} not found")
        only_if.check(found, found.key)
        access.audit(
            caller=caller,
            action="storage.delete",
            target=f"object:{found.key}",
            content_length=found.content_length,
            checksum=f"sha256:{found.sha256}",
        )
        ledger.remove(space, [found])
    discard(found.blob)
    return found
