"""The objects of locked spaces: written and removed, with the sums of their spaces and their events.

Whatever is done here is the last step of a transaction. Lock order: space → event clock → topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from django.conf import settings
from django.db.models import Model

from apps.core import clock, correlation, pgarray, sql
from apps.core.errors import GyozaError, Unavailable
from apps.core.steps import Statement, carry_out
from apps.storage import events, keys
from apps.storage.errors import ExecutionEnded, ExecutionNotFound, QuotaExceeded
from apps.storage.models import Object, Space
from apps.storage.writes.wanted import Attached

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from apps.core.steps import Steps
    from apps.storage.writes.wanted import Attachment
    from apps.topics.services import NewEvent

M = TypeVar("M", bound=Model)

_COLUMNS = [field.attname for field in Object._meta.concrete_fields]


@dataclass(frozen=True, slots=True)
class Draft:
    """What attachments came to, and the events that are to be appended for it."""

    found: dict[Attachment, Attached | GyozaError]
    events: list[NewEvent]


def lock_space(execution_id: UUID) -> Space:
    """Lock the storage of an execution until the transaction ends. Raises ExecutionNotFound."""
    rows = sql.run_bound("storage/lock_space", execution_id=execution_id).rows
    if not rows:
        raise ExecutionNotFound(f"Execution {execution_id} not found", execution=str(execution_id))
    return _loaded(Space, rows[0])


def lock_free_spaces(ids: Collection[UUID]) -> Steps[dict[UUID, Space]]:
    """Lock those of some spaces that nobody else has locked, until the transaction ends; never waits."""
    rows = yield Statement("storage/lock_free_spaces", {"execution_ids": sorted(ids)})
    return {row["execution_id"]: _loaded(Space, row) for row in rows}


def attach(wanted: Iterable[Attachment], spaces: Mapping[UUID, Space]) -> Steps[Draft]:
    """Make uploaded content objects of locked spaces; each is judged as if those before it had been written.

    Says of each what it came to, or why it was refused, alone. Nothing is said, and done, of one whose space isn't among
    these, or whose object another of these has just written. The events are still to be appended.
    """
    open_ = _first_of_each_name([one for one in wanted if one.space_id in spaces])
    existing = yield from _find_objects(open_)
    found: dict[Attachment, Attached | GyozaError] = {}
    rows: list[_Row] = []
    for one in open_:
        space, old = spaces[one.space_id], existing.get((one.space_id, one.new.name))
        try:
            require_open(space)
            one.new.only_if.check(old, f"{space.pk}/{one.new.name}")
            require_room(space, old, one.uploaded.length)
        except GyozaError as exc:
            found[one] = exc
            continue
        # For the next one's quota; what is kept is counted by the statement.
        space.count += old is None
        space.bytes += one.uploaded.length - (0 if old is None else old.content_length)
        rows.append(_Row(one, _filled(space, one, old), old))
    changed = yield from _change(rows, [])
    written = [row for row in rows if row.stored.blob in changed.blobs]
    for row in rows:
        found[row.wanted] = (
            Attached(row.stored, None if row.old is None else row.old.blob)
            if row in written
            else Unavailable("the content took too long to arrive and was given up")
        )
    told = [
        events.Told(spaces[row.stored.space_id], row.stored, row.wanted.correlation_id)
        for row in written
    ]
    return Draft(found, events.make(events.CREATED, told, last_tick=changed.last_tick))


def lock_and_attach(wanted: Sequence[Attachment], *, to: UUID) -> list[Attached | GyozaError]:
    """Lock a space, however long that takes, and make uploaded contents objects of it, as the last step of a transaction.

    Says of each, all of other names, what it came to, or why it was refused, alone. Raises ExecutionNotFound.
    """
    draft = carry_out(attach(wanted, {to: lock_space(to)}))
    events.append(draft.events)
    return [draft.found[one] for one in wanted]


def attach_one(wanted: Attachment) -> Attached:
    """Do as `lock_and_attach` for one; raises what it is refused for."""
    [found] = lock_and_attach([wanted], to=wanted.space_id)
    if isinstance(found, GyozaError):
        raise found
    return found


def remove(space: Space, objects: Sequence[Object]) -> None:
    """Remove objects of a locked space and tell it."""
    changed = carry_out(_change([], objects))
    told = [events.Told(space, one, correlation.current()) for one in objects]
    events.append(events.make(events.DELETED, told, last_tick=changed.last_tick))


def require_open(space: Space) -> None:
    """Raise ExecutionEnded if nothing may be written to a space any more."""
    if space.closed_at is not None:
        raise ExecutionEnded(
            f"Execution {space} has ended: nothing is written under it any more",
            execution_id=str(space.execution_id),
        )


def require_room(space: Space, existing: Object | None, length: int) -> None:
    """Raise QuotaExceeded if a space has no room for an object of this length, new or in the place of another."""
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


class _Row(NamedTuple):
    """An object to be written, and the one that it takes the place of."""

    wanted: Attachment
    stored: Object
    old: Object | None


class _Changed(NamedTuple):
    """Blobs that were written or removed, and the last tick of their events."""

    blobs: set[str]
    last_tick: int


def _first_of_each_name(wanted: Sequence[Attachment]) -> list[Attachment]:
    # One statement can't write a row twice.
    firsts: dict[tuple[UUID, str], Attachment] = {}
    for one in wanted:
        firsts.setdefault((one.space_id, one.new.name), one)
    return list(firsts.values())


def _find_objects(wanted: Sequence[Attachment]) -> Steps[dict[tuple[UUID, str], Object]]:
    if not wanted:
        return {}
    rows = yield Statement(
        "storage/find_objects",
        {
            "space_ids": [one.space_id for one in wanted],
            "names": pgarray.texts([one.new.name.encode() for one in wanted]),
        },
    )
    return {(row["space_id"], row["name"]): _loaded(Object, row) for row in rows}


def _loaded(model: type[M], row: dict[str, Any]) -> M:
    return model.from_db("default", list(row), list(row.values()))


def _filled(space: Space, wanted: Attachment, old: Object | None) -> Object:
    now, new, uploaded = clock.now(), wanted.new, wanted.uploaded
    row = Object(
        space=space,
        name=new.name,
        stage=new.stage,
        folder=keys.folder_of(new.name),
        extension=keys.extension_of(new.name),
        content_type=new.content_type,
        content_length=uploaded.length,
        sha256=uploaded.sha256,
        blob=uploaded.blob,
        run_id=new.run_id,
        metadata=new.metadata,
        created_at=now if old is None else old.created_at,
        modified_at=now,
    )
    row._state.adding = False
    if old is not None:
        row.pk = old.pk
    return row


def _change(rows: Sequence[_Row], removed: Sequence[Object]) -> Steps[_Changed]:
    if not (rows or removed):
        return _Changed(set(), 0)
    now = clock.now()
    answer = yield Statement(
        "storage/change_objects",
        {
            "wanted": msgspec.json.encode([_columns(row) for row in rows]).decode(),
            "removed": [one.pk for one in removed],
            "now": now,
            "now_ms": clock.milliseconds(now),
        },
    )
    return _Changed({row["blob"] for row in answer}, answer[0]["tick"] if answer else 0)


def _columns(row: _Row) -> dict[str, Any]:
    columns = {name: getattr(row.stored, name) for name in _COLUMNS}
    if row.old is not None:
        columns["replaced"] = row.old.blob
        columns["old_stage"] = row.old.stage
        columns["old_length"] = row.old.content_length
    return columns
