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
from apps.core.errors import GyozaError, Invalid
from apps.storage import attempts, events, keys, queries
from apps.storage.errors import ObjectNotFound
from apps.storage.incoming import Incoming, check_length
from apps.storage.models import Object, Space
from apps.storage.writes import ledger
from apps.storage.writes.uploads import (
    Content,
    InMemory,
    discard,
    upload,
    upload_bytes,
    upload_together,
)
from apps.storage.writes.wanted import (
    UNCONDITIONAL,
    Attached,
    Attachment,
    Condition,
    NewObject,
    Uploaded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.storage.attempts import ExecutionsOf
    from apps.storage.keys import Key

__all__ = [
    "Attached",
    "Condition",
    "Content",
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
    "put_objects",
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


def put_object(*, execution_id: UUID, new: NewObject, content: Content) -> tuple[Object, bool]:
    """Store an object, durable on return, and say whether it is a new one; a crash leaves the old one or the new one.

    Raises Invalid, ExecutionNotFound, ExecutionEnded, PreconditionFailed, QuotaExceeded, OutOfRoom, Unavailable. Not
    within a transaction: see `upload` and `attach`.
    """
    [outcome] = put_objects(execution_id=execution_id, wanted=[(new, content)])
    if isinstance(outcome, GyozaError):
        raise outcome
    return outcome.stored, outcome.replaced is None


def put_objects(
    *,
    execution_id: UUID,
    wanted: Sequence[tuple[NewObject, Content]],
    first: Callable[[], None] | None = None,
) -> list[Attached | GyozaError]:
    """Store objects of different names in one transaction, durable on return; a crash leaves the old ones or the new ones.

    Says of each what it came to, or why it was refused, alone, as `put_object` would raise it: Invalid, ExecutionEnded,
    PreconditionFailed, QuotaExceeded; OutOfRoom and Unavailable for that one and those after it.

    `first` begins the transaction: it takes locks that come before that of the space, and raises what forbids all of it.
    Raises ExecutionNotFound, Unavailable. Not within a transaction.
    """
    outcomes: dict[int, Attached | GyozaError] = {}
    for number, (new, _) in enumerate(wanted):
        try:
            keys.check_name(new.name)
        except Invalid as exc:
            outcomes[number] = exc
    numbers = [number for number in range(len(wanted)) if number not in outcomes]
    uploaded, failure = upload_together([wanted[number][1] for number in numbers])
    if failure is not None:
        outcomes.update(dict.fromkeys(numbers[len(uploaded) :], failure))
    brought = dict(zip(numbers, uploaded, strict=False))
    if brought:
        attachments = [Attachment(execution_id, wanted[n][0], one) for n, one in brought.items()]
        outcomes.update(zip(brought, _attach_or_discard(attachments, first), strict=True))
    return [outcomes[number] for number in range(len(wanted))]


def _attach_or_discard(
    wanted: Sequence[Attachment], first: Callable[[], None] | None
) -> list[Attached | GyozaError]:
    try:
        with transaction.atomic(durable=True):
            if first is not None:
                first()
            outcomes = ledger.lock_and_attach(wanted, to=wanted[0].space_id)
    except BaseException:
        discard(*(one.uploaded.blob for one in wanted))
        raise
    unused = [
        one.uploaded.blob if isinstance(outcome, GyozaError) else outcome.replaced
        for one, outcome in zip(wanted, outcomes, strict=True)
    ]
    if gone := [blob for blob in unused if blob is not None]:
        discard(*gone)
    return outcomes


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
