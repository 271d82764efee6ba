"""Writes: spaces are opened and closed with their executions; objects are stored, replaced and deleted.

Lock order: execution → space → event clock → topic.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from django.db import DatabaseError, transaction

from apps.access import services as access
from apps.core import clock, sql
from apps.core.errors import PreconditionFailed, Unavailable
from apps.storage import attempts, blobs, events, keys, queries
from apps.storage.errors import ExecutionEnded, ExecutionNotFound, ObjectNotFound, QuotaExceeded
from apps.storage.incoming import Incoming
from apps.storage.models import Leftover, Object, Space

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.storage.attempts import ExecutionOf
    from apps.storage.keys import Key

log = logging.getLogger(__name__)

JSON = Any

# For how long a blob may be on its way into the backend, and how much longer for each MiB.
_PATIENCE = timedelta(minutes=10)
_PATIENCE_PER_MIB = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class NewSpace:
    """The storage of an execution to be made."""

    execution_id: UUID
    tag: str | None
    visible_as: str
    correlation_id: str = ""


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


@dataclass(frozen=True, slots=True)
class NewObject:
    """What is said of an object to be written; `name` is its key without the execution."""

    name: str
    stage: str
    content_type: str
    metadata: dict[str, JSON] = field(default_factory=dict)
    run_id: UUID | None = None
    only_if: Condition = Condition()


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Content that is in the backend and belongs to no object yet."""

    blob: str
    length: int
    sha256: str


def register_runs(*, execution_of: ExecutionOf) -> None:
    """Have somebody who knows runs asked from now on which execution the token of a run stands for; at start."""
    attempts.register(execution_of)


# --- spaces -------------------------------------------------------------------------------------


def open_spaces(new: Sequence[NewSpace]) -> None:
    """Open the storage of new executions, in the transaction that makes them."""
    Space.objects.bulk_create(
        [
            Space(
                execution_id=one.execution_id,
                tag=one.tag,
                visible_as=one.visible_as,
                correlation_id=one.correlation_id,
            )
            for one in new
        ],
        batch_size=500,
    )


def close_spaces(execution_ids: Collection[UUID]) -> None:
    """Close the storage of executions, in the transaction that ends them.

    Waits for those who are writing, whose events are then in the log; who comes later is refused.
    """
    Space.objects.filter(pk__in=execution_ids).update(closed_at=clock.now())
    events.announce_ends(execution_ids)


def reopen_space(execution_id: UUID) -> None:
    """Open the storage of an execution that goes on, in the transaction that lets it."""
    Space.objects.filter(pk=execution_id).update(closed_at=None)
    events.announce_ends([execution_id])


def let_read(execution_id: UUID, executions: Collection[UUID]) -> None:
    """Let the ops of an execution read what others have stored, in the transaction that makes it."""
    Space.objects.filter(pk=execution_id).update(reads=sorted(executions))


def lock_space(execution_id: UUID) -> Space:
    """Lock the storage of an execution until the transaction ends. Raises ExecutionNotFound."""
    # no_key: objects reference it.
    space = Space.objects.select_for_update(no_key=True).filter(pk=execution_id).first()
    if space is None:
        raise ExecutionNotFound(f"Execution {execution_id} not found", execution=str(execution_id))
    return space


# --- objects ------------------------------------------------------------------------------------


def admit_write(*, key: Key, caller: Caller) -> Space:
    """Return the space that a caller may write to. Raises ExecutionNotFound, Forbidden, ExecutionEnded."""
    space = queries.get_space_to_change(named=key.execution, caller=caller)
    _require_open(space)
    return space


def expect_write(*, key: Key, caller: Caller, length: int, only_if: Condition) -> None:
    """Refuse a large write before its content has come, as `put_object` would once it has.

    Raises ExecutionNotFound, ExecutionEnded, PreconditionFailed, QuotaExceeded.
    """
    space = admit_write(key=key, caller=caller)
    existing = Object.objects.filter(space=space, name=key.name).first()
    only_if.check(existing, f"{space.pk}/{key.name}")
    _require_room(space, existing, length)


def incoming() -> Incoming:
    """Return an empty file of this machine for content on its way in; to be closed. Raises OutOfRoom, Unavailable."""
    return Incoming()


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
    content: Incoming,
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


def upload(content: Incoming) -> Uploaded:
    """Bring content into the backend under a name of its own, outside of any transaction.

    Whoever can't attach it discards it; if they don't live to, a sweep does. Raises OutOfRoom, Unavailable.
    """
    name = blobs.new_name()
    patience = _PATIENCE + _PATIENCE_PER_MIB * (content.length // 2**20)
    Leftover.objects.create(blob=name, due_at=clock.now() + patience)
    try:
        blobs.write(name, content)
    except BaseException:
        discard(name)
        raise
    return Uploaded(name, content.length, content.sha256)


def upload_bytes(content: bytes, *, name: str) -> Uploaded:
    """Do as `upload` for content in memory that is to be an object of this name. Raises Invalid, TooLarge, too."""
    keys.check_name(name)
    with Incoming() as incoming:
        incoming.add(content)
        return upload(incoming)


def attach(*, execution_id: UUID, new: NewObject, uploaded: Uploaded) -> tuple[Object, str | None]:
    """Make uploaded content an object and tell it, as the last step of the caller's transaction.

    Returns the object, and the blob it had before, which the caller discards after commit. Raises ExecutionNotFound,
    ExecutionEnded, PreconditionFailed, QuotaExceeded, Unavailable.
    """
    # What fails here fails as a whole, with what the caller has done besides.
    with transaction.atomic(savepoint=False):
        space = lock_space(execution_id)
        _require_open(space)
        existing = Object.objects.filter(space=space, name=new.name).first()
        new.only_if.check(existing, f"{space.pk}/{new.name}")
        _require_room(space, existing, uploaded.length)
        changes = [(new.stage, 1, uploaded.length)]
        replaced = None
        if existing is not None:
            replaced = existing.blob
            changes.append((existing.stage, -1, -existing.content_length))
        stored = _filled(existing or Object(space=space, name=new.name), new, uploaded)
        _write(stored, replaced)
        _count(space, changes)
        events.append(events.CREATED, space, [stored])
    return stored, replaced


def delete_object(*, key: Key, caller: Caller, only_if: Condition = Condition()) -> Object:
    """Delete an object and tell it; durable on return.

    Raises ExecutionNotFound, Forbidden, ObjectNotFound, PreconditionFailed.
    """
    space = queries.get_space_to_change(named=key.execution, caller=caller)
    with transaction.atomic():
        space = lock_space(space.pk)
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
        remove_objects(space, [found])
    discard(found.blob)
    return found


def remove_objects(space: Space, objects: Sequence[Object]) -> None:
    """Remove objects of a locked space and tell it, as the last step of the caller's transaction."""
    _count(space, [(one.stage, -1, -one.content_length) for one in objects])
    Leftover.objects.bulk_create([Leftover(blob=one.blob, due_at=clock.now()) for one in objects])
    Object.objects.filter(pk__in=[one.pk for one in objects]).delete()
    events.append(events.DELETED, space, objects)


def discard(blob: str) -> bool:
    """Remove a blob unless an object has it, and say whether it could be seen to; if not, a sweep will.

    Whether it has one is told by its leftover row: a transaction whose outcome nobody has heard may have taken it.
    """
    try:
        with transaction.atomic():
            if Leftover.objects.select_for_update().filter(blob=blob).first() is not None:
                blobs.remove(blob)
                Leftover.objects.filter(blob=blob).delete()
    except (Unavailable, DatabaseError) as exc:
        log.warning("the blob %s was not removed, a sweep will: %s", blob, exc)
        return False
    return True


def _require_open(space: Space) -> None:
    if space.closed_at is not None:
        raise ExecutionEnded(
            f"Execution {space} has ended: nothing is written under it any more",
            execution_id=str(space.execution_id),
        )


def _require_room(space: Space, existing: Object | None, length: int) -> None:
    most_bytes = settings.GYOZA_STORAGE_QUOTA_BYTES
    less = 0 if existing is None else existing.content_length
    if most_bytes and space.bytes - less + length > most_bytes:
        raise QuotaExceeded(
            f"the objects of an execution may have {most_bytes} bytes",
            limit="quota_bytes",
            max=most_bytes,
        )
    most = settings.GYOZA_STORAGE_QUOTA_OBJECTS
    if most and existing is None and space.count >= most:
        raise QuotaExceeded(
            f"an execution may have {most} objects", limit="quota_objects", max=most
        )


def _filled(row: Object, new: NewObject, uploaded: Uploaded) -> Object:
    row.stage = new.stage
    row.folder = keys.folder_of(new.name)
    row.extension = keys.extension_of(new.name)
    row.content_type = new.content_type
    row.content_length = uploaded.length
    row.sha256 = uploaded.sha256
    row.blob = uploaded.blob
    row.run_id = new.run_id
    row.metadata = new.metadata
    row.modified_at = clock.now()
    if row._state.adding:
        row.created_at = row.modified_at
    return row


def _write(row: Object, replaced: str | None) -> None:
    columns = {field.attname: getattr(row, field.attname) for field in Object._meta.concrete_fields}
    columns["metadata"] = msgspec.json.encode(row.metadata).decode()
    if not sql.run_bound("storage/write_object", replaced=replaced, **columns).rows:
        raise Unavailable("the content took too long to arrive and was given up")
    row._state.adding = False


def _count(space: Space, changes: Sequence[tuple[str, int, int]]) -> None:
    """Keep the sums of a locked space and its stages: by how many objects and bytes each changes."""
    by_stage: dict[str, tuple[int, int]] = {}
    for stage, objects, size in changes:
        so_far = by_stage.get(stage, (0, 0))
        by_stage[stage] = (so_far[0] + objects, so_far[1] + size)
    for stage, (objects, size) in by_stage.items():
        sql.run_bound(
            "storage/keep_sums", space_id=space.pk, stage=stage, objects=objects, size=size
        )
