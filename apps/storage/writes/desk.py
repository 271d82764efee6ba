"""Writes of a web process, many at once: what they need of the database is done for several of them together.

A write is announced, its content brought into the backend beside that of others, and made an object with others in one
transaction: the locks are taken, the log is appended to, and the disk is waited for once for all of them. Each is judged
on its own, under the locks, and refused alone.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from django.db import DatabaseError, transaction

from apps.core import asyncdb
from apps.core.errors import GyozaError, Unavailable
from apps.core.steps import carry_out_on
from apps.core.threads import in_own_thread
from apps.storage import blobs, queries
from apps.storage.writes import ledger, uploads
from apps.storage.writes.batches import Batches
from apps.storage.writes.wanted import Attachment
from apps.topics import services as topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from apps.access.auth import Caller
    from apps.storage.keys import Key
    from apps.storage.models import Object, Space
    from apps.storage.writes.uploads import Content
    from apps.storage.writes.wanted import Attached, NewObject, Uploaded

_AT_ONCE = 100
# What is no larger is in the backend soon, so a transaction about to begin waits for it: eight clients at once then need
# half as many transactions, and each write a fifth less of a core. But not for long, for a backend may be slow.
_SOON_BYTES = 64 * 1024
_PATIENCE_SECONDS = 0.005
# A space that somebody else has locked is tried again: mostly it is free after a transaction, some milliseconds. Nobody waits
# in Postgres's queue, where each would hold a thread or a connection that writes to other spaces need.
_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.064
# Whoever holds it for longer is no transaction of ours.
_HELD_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Announced:
    """A write that may begin: where to, and under which name its content goes into the backend."""

    space_id: UUID
    blob: str


async def write(
    *, key: Key, caller: Caller, new: NewObject, length: int, content: Callable[[], Content]
) -> tuple[Object, bool]:
    """Store an object, durable on return, and say whether it is a new one; a crash leaves the old one or the new one.

    `content` is called in a thread, once the write is admitted.

    Raises ExecutionNotFound, Forbidden, ExecutionEnded, PreconditionFailed, QuotaExceeded, TooLarge, OutOfRoom, Unavailable.
    """
    announced = uploaded = None
    try:
        with _attachments.expected() if length <= _SOON_BYTES else nullcontext():
            announced = await _announcements.call((key, caller, length))
            # No database there: a plain thread will do.
            uploaded = await asyncio.to_thread(_bring, announced.blob, content)
        attached = await _attach(Attachment(announced.space_id, new, uploaded))
    except Exception as exc:
        is_backend_away = uploaded is None and isinstance(exc, Unavailable)
        if announced is not None and not is_backend_away:
            await _discards.call(announced.blob)
        raise
    if attached.replaced is not None:
        await _discards.call(attached.replaced)
    return attached.stored, attached.replaced is None


def _bring(blob: str, content: Callable[[], Content]) -> Uploaded:
    return uploads.bring(blob, content())


async def _attach(wanted: Attachment) -> Attached:
    clock = asyncio.get_running_loop().time
    pause, until = _FIRST_PAUSE_SECONDS, clock() + _HELD_SECONDS
    while (attached := await _attachments.call(wanted)) is None:
        if clock() > until:
            raise Unavailable("the storage of this execution is held by somebody else")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    return attached


async def announce(asked: Sequence[tuple[Key, Caller, int]]) -> Sequence[Announced | Exception]:
    """Admit writes of so many bytes, and list the blobs of those that are admitted."""
    named = [(key.execution, caller) for key, caller, _ in asked]
    async with asyncdb.connection() as conn:
        spaces = await carry_out_on(conn, queries.spaces_to_change(named))
        found = [_admitted(space) for space in spaces]
        lengths = [
            length
            for space, (_, _, length) in zip(found, asked, strict=True)
            if not isinstance(space, GyozaError)
        ]
        names = iter(await carry_out_on(conn, uploads.announce(lengths)))
    return [
        space if isinstance(space, GyozaError) else Announced(space.pk, next(names))
        for space in found
    ]


def _admitted(space: Space | GyozaError) -> Space | GyozaError:
    if isinstance(space, GyozaError):
        return space
    try:
        ledger.require_open(space)
    except GyozaError as exc:
        return exc
    return space


async def attach_together(
    wanted: Sequence[Attachment],
) -> Sequence[Attached | Exception | None]:
    """Make uploaded contents objects in one transaction that waits for no space.

    None: nothing was done with it, since its space is locked, or another of these writes to its name.
    """
    try:
        async with asyncdb.transaction() as conn:
            ids = {one.space_id for one in wanted}
            spaces = await carry_out_on(conn, ledger.lock_free_spaces(ids))
            draft = await carry_out_on(conn, ledger.attach(wanted, spaces))
            appended = None
            if draft.events:
                appended = await topics.append_events_on(conn, draft.events)
                if appended is None:
                    raise _NotPlain
    except _NotPlain:
        free = [one for one in wanted if one.space_id in spaces]
        outcomes = await in_own_thread(_attach_one_by_one, free)
        return [outcomes.get(one) for one in wanted]
    except (psycopg.DataError, psycopg.IntegrityError) as exc:
        # About one of them, which must not fail the others. Not so a lost connection: perhaps the commit was made.
        if len(wanted) == 1:
            return [exc]
        return [outcome for one in wanted for outcome in await attach_together([one])]
    if appended is not None:
        appended.tell()
    return [draft.found.get(one) for one in wanted]


def _attach_one_by_one(wanted: Sequence[Attachment]) -> dict[Attachment, Attached | Exception]:
    found: dict[Attachment, Attached | Exception] = {}
    for one in wanted:
        try:
            found[one] = attach_waiting(one)
        except (GyozaError, DatabaseError) as exc:
            found[one] = exc
    return found


def attach_waiting(wanted: Attachment) -> Attached:
    """Make uploaded content an object as soon as its space is free."""
    with transaction.atomic(durable=True):
        return ledger.attach_one(wanted)


async def discard_together(names: Sequence[str]) -> Sequence[bool]:
    """Do as `uploads.discard` for many, which leaves all of them to a sweep if it can't remove one."""
    try:
        async with asyncdb.transaction() as conn:
            found = await carry_out_on(conn, uploads.unlist(names))
            # Beside each other: a backend may take its time.
            removals = [asyncio.to_thread(blobs.remove, one) for one in found]
            for outcome in await asyncio.gather(*removals, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
    except (Unavailable, psycopg.Error) as exc:
        uploads.note_left(len(names), exc)
        return [False] * len(names)
    return [True] * len(names)


class _NotPlain(Exception):
    """The topic of events has to be made first, or to be kept small: the log's sync side knows how."""


_announcements: Batches[tuple[Key, Caller, int], Announced] = Batches(announce, most=_AT_ONCE)
_attachments: Batches[Attachment, Attached | None] = Batches(
    attach_together, most=_AT_ONCE, patience=_PATIENCE_SECONDS
)
_discards: Batches[str, bool] = Batches(discard_together, most=_AT_ONCE)
