"""Reads of spaces and objects."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Count, Max, Min, Q

from apps.core import clock, pgarray
from apps.core.errors import Forbidden, GyozaError
from apps.core.steps import Statement, carry_out
from apps.storage import attempts, blobs, keys
from apps.storage.errors import ExecutionNotFound, ObjectNotFound
from apps.storage.models import Object, Space, StageTotal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from apps.access.auth import Caller
    from apps.core.steps import Steps
    from apps.storage.blobs import Readable
    from apps.storage.keys import Key


def spaces_visible_to(caller: Caller) -> QuerySet[Space]:
    """Return the spaces a caller may see: by the prefixes of its key; an op sees that of its own execution.

    The op of a replay also sees those of the executions whose steps the replay has not done again.
    """
    rows = Space.objects.all()
    if caller.run_id is not None:
        own = rows.filter(pk__in=[attempts.execution_of(caller)]).first()
        return rows.filter(pk__in=[own.pk, *own.reads]) if own is not None else rows.none()
    if not caller.prefixes:
        return rows
    allowed = Q()
    for prefix in caller.prefixes:
        allowed |= Q(visible_as__startswith=prefix)
    return rows.filter(allowed)


def find_space(*, named: str, caller: Caller) -> Space | None:
    """Return the space of an execution, by UUID or tag, if the caller may see it."""
    if "\0" in named:  # Postgres takes no such text
        return None
    return spaces_visible_to(caller).filter(_named(named)).first()


def get_space(*, named: str, caller: Caller) -> Space:
    """Return the space of an execution, by UUID or tag. Raises ExecutionNotFound."""
    found = find_space(named=named, caller=caller)
    if found is None:
        raise ExecutionNotFound(f"Execution {named} not found", execution=named)
    return found


def get_space_to_change(*, named: str, caller: Caller) -> Space:
    """Return the space of an execution, by UUID or tag; an op changes that of its own only.

    Raises ExecutionNotFound, Forbidden.
    """
    [found] = carry_out(spaces_to_change([(named, caller)]))
    if isinstance(found, GyozaError):
        raise found
    return found


def spaces_to_change(asked: Sequence[tuple[str, Caller]]) -> Steps[list[Space | GyozaError]]:
    """Do as `get_space_to_change` for many; each gets its space, or what it would have raised."""
    own = yield from attempts.executions_of({caller for _, caller in asked if _is_op(caller)})
    # An op may be told that it may not change what it may read.
    ids = {one for one in own.values() if isinstance(one, UUID)}
    # Postgres takes no text with NUL.
    meant = {_read(named) for named, _ in asked if "\0" not in named}
    rows = yield Statement(
        "storage/find_spaces",
        {
            "execution_ids": sorted(ids | {one for one in meant if isinstance(one, UUID)}),
            "tags": pgarray.texts([one.encode() for one in meant if isinstance(one, str)]),
        },
    )
    known: dict[UUID | str, Space] = {}
    for row in rows:
        space = Space.from_db("default", list(row), list(row.values()))
        known[space.pk] = space
        if space.tag is not None:
            known[space.tag] = space
    return [_to_change(named, caller, own.get(caller), known) for named, caller in asked]


def _is_op(caller: Caller) -> bool:
    return caller.run_id is not None


def _to_change(
    named: str,
    caller: Caller,
    own: UUID | GyozaError | None,
    known: Mapping[UUID | str, Space],
) -> Space | GyozaError:
    if isinstance(own, GyozaError):
        return own
    space = known.get(_read(named))
    if _is_op(caller):
        mine = None if own is None else known.get(own)
        is_visible = mine is not None and space is not None and space.pk in {mine.pk, *mine.reads}
    else:
        is_visible = space is not None and caller.sees(space.visible_as)
    if space is None or not is_visible:
        return ExecutionNotFound(f"Execution {named} not found", execution=named)
    if _is_op(caller) and space.pk != own:
        return Forbidden("an op writes to its own execution only", execution=named)
    return space


def find_spaces(*, named: Sequence[str], caller: Caller) -> list[Space]:
    """Return the spaces of executions, by UUID or tag. Raises ExecutionNotFound for the first that the caller can't see."""
    wanted = Q()
    for one in named:
        if "\0" in one:  # Postgres takes no such text
            raise ExecutionNotFound(f"Execution {one!r} not found")
        wanted |= _named(one)
    found = list(spaces_visible_to(caller).filter(wanted))
    known = {space.execution_id for space in found} | {space.tag for space in found}
    for one in named:
        if _read(one) not in known:
            raise ExecutionNotFound(f"Execution {one} not found", execution=one)
    return found


def lifetime(execution_ids: Collection[UUID]) -> tuple[datetime, datetime | None]:
    """Return when the first of these executions began, and when the last one ended; None if one is still written to."""
    found = Space.objects.filter(pk__in=execution_ids).aggregate(
        first=Min("created_at"), last=Max("closed_at"), open=Count("pk", filter=Q(closed_at=None))
    )
    return found["first"] or clock.now(), None if found["open"] else found["last"]


def key_of(text: str) -> Key:
    """Read a key as answers have it. Raises Invalid."""
    return keys.plain_key(text)


def get_object(*, key: Key, caller: Caller) -> Object:
    """Return an object by its key. Raises ExecutionNotFound, ObjectNotFound."""
    space = get_space(named=key.execution, caller=caller)
    found = Object.objects.filter(space=space, name=key.name).first()
    if found is None:
        raise ObjectNotFound(f"Object {key.execution}/{key.name} not found")
    return found


def sums_of_run(run_id: UUID, *, execution_id: UUID) -> dict[str, str]:
    """Return the SHA-256 of each object that a run has written, by name."""
    rows = Object.objects.filter(space_id=execution_id, run_id=run_id)
    return dict(rows.values_list("name", "sha256"))


def open_object(*, key: Key, caller: Caller) -> tuple[Object, Readable]:
    """Return an object and its content, to be closed. Raises ExecutionNotFound, ObjectNotFound, Unavailable."""
    found = get_object(key=key, caller=caller)
    while True:
        try:
            return found, blobs.open_at(found.blob, 0)
        except blobs.BlobGone:
            # Replaced or deleted since it was looked up; but what is still so has lost its content.
            again = get_object(key=key, caller=caller)
            if again.blob == found.blob:
                raise ObjectNotFound(f"the content of {found.key} has gone") from None
            found = again


def has_ended(execution_id: UUID) -> bool:
    """Say whether nothing may be written under an execution any more."""
    return Space.objects.filter(pk=execution_id, closed_at__isnull=False).exists()


def read_object(*, key: Key, caller: Caller, most: int) -> tuple[Object, bytes]:
    """Return an object and its content, of which `most` bytes. Raises ExecutionNotFound, ObjectNotFound, Unavailable."""
    found, opened = open_object(key=key, caller=caller)
    with closing(opened), blobs.errors_translated():
        return found, _begin(opened, min(most, found.content_length))


def _begin(opened: Readable, length: int) -> bytes:
    pieces: list[bytes] = []
    while length > 0 and (piece := opened.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def counts_by_stage(execution_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """Return how many objects each stage of these executions holds, by execution and stage, in one query."""
    found: dict[UUID, dict[str, int]] = {}
    rows = StageTotal.objects.filter(space_id__in=execution_ids, count__gt=0)
    for space_id, stage, count in rows.values_list("space_id", "stage", "count"):
        found.setdefault(space_id, {})[stage] = count
    return found


def _named(named: str) -> Q:
    meant = _read(named)
    return Q(pk=meant) if isinstance(meant, UUID) else Q(tag=meant)


def _read(named: str) -> UUID | str:
    try:
        return UUID(named)
    except ValueError:
        return named
