"""The files of one attempt: each becomes an object of its run's stage, once for each time it was written."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from django.db import connections

from apps.core.errors import Conflict, GyozaError, NotFound, OutOfRoom, Unavailable
from apps.core.sql import AWAY
from apps.runs import scheduling
from apps.runs.pickup import files
from apps.storage import queries as stored
from apps.storage import services as storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from pathlib import Path
    from uuid import UUID

    from apps.runs.pickup.files import Found, Stamp
    from apps.runs.scheduling import Claim
    from apps.storage.services import Content, NewObject

_PIECE_BYTES = 1024 * 1024
# What is found together becomes objects in one transaction: so many files, and so many bytes unless one alone has more.
_MOST_FILES, _MOST_BYTES = 100, 4 * _PIECE_BYTES
# A file that is still open is looked at again so soon, and then ever less often.
_SOON_SECONDS, _LATE_SECONDS = 0.005, 0.25
# Wait after the storage backend, its disk or Postgres has refused.
_PAUSE_SECONDS = 1.0
# For how long an attempt that has ended waits for them, before it counts as lost and is made again.
PATIENCE_SECONDS = 300.0
# How many refusals an error message names.
_MOST_TOLD = 5


class _File(NamedTuple):
    """A file that is to be an object, as it was read."""

    path: str
    stamp: Stamp
    new: NewObject
    content: Content


class _Batch(ExitStack):
    """Files that become objects together; holds their contents until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[_File] = []
        self._bytes = 0

    def has_room_for(self, length: int) -> bool:
        return len(self.files) < _MOST_FILES and self._bytes + length <= _MOST_BYTES

    def add(self, file: _File, lent: ExitStack) -> None:
        self.push(lent)
        self.files.append(file)
        self._bytes += file.content.length

    def close(self) -> None:
        super().close()
        self.files.clear()
        self._bytes = 0


class LeaseGone(Exception):
    """The run is no longer this worker's: what its op writes is of no interest."""


class Pickup:
    """Turns an attempt's files into objects, in threads of a pool, one pass at a time.

    A file that can't be an object (its name, the quota) makes an attempt fail that would have succeeded: `problem`.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        execution_id: UUID,
        stage: str,
        directory: Path,
        pool: Executor,
        on_end: Callable[[str], None],
        on_due: Callable[[float], None],
    ) -> None:
        self.directory = directory
        self.problem = ""
        self.is_lost = False  # the problem is this worker's, or passes
        self.due_at: float | None = None  # when to look again, though nothing has been heard
        self._claim = claim
        self._execution_id = execution_id
        self._stage = stage
        self._pool = pool
        self._on_end = on_end
        self._on_due = on_due
        self._lock = threading.Lock()
        self._known: dict[str, Stamp] = {}
        self._told: dict[str, str] = {}
        self._sums: dict[str, str] | None = {}
        self._is_running = False
        self._is_asked = False
        self._is_over = False
        self._ended_at: float | None = None
        self._wait = _SOON_SECONDS
        self._refused: dict[str, str] = {}  # why, by path; it may be written again and again

    @property
    def has_ended(self) -> bool:
        """Whether its op has: nothing more will be heard of its files."""
        return self._ended_at is not None

    def recall(self) -> None:
        """Have what was stored before a restart looked up, so that it is not stored again."""
        self._sums = None

    def look(self) -> None:
        """Store what is new, soon. From any thread, as often as there may be something."""
        with self._lock:
            self.due_at = None
            if self._is_over:
                return
            self._is_asked = True
            if self._is_running:
                return
            self._is_running = True
        self._pool.submit(self._run)

    def look_in(self, seconds: float) -> None:
        """Look again after a while, if nothing makes it look before."""
        with self._lock:
            due_at = time.monotonic() + seconds
            if self._is_over or (self.due_at is not None and self.due_at <= due_at):
                return
            self.due_at = due_at
        self._on_due(due_at)

    def postpone(self, seconds: float) -> None:
        """Look later than was said: its op has not begun. For the watcher's thread."""
        with self._lock:
            self.due_at = None if self._is_over else time.monotonic() + seconds

    def finish(self) -> bool:
        """Say whether all its files are objects, now that its op has ended; if not, `on_end` will be called."""
        with self._lock:
            if self._is_over:
                return True
            if self._ended_at is not None:
                return False
            if not self._is_running and not files.has_any(self.directory):
                self._is_over = True
                return True
            self._ended_at = time.monotonic()
        self.look()
        return False

    def close(self) -> None:
        """Store nothing more."""
        with self._lock:
            self._is_over = True
            self.due_at = None

    def _run(self) -> None:
        try:
            while self._is_wanted():
                self._pass()
        finally:
            connections.close_all()

    def _is_wanted(self) -> bool:
        with self._lock:
            self._is_running = self._is_asked and not self._is_over
            self._is_asked = False
            return self._is_running

    def _pass(self) -> None:
        is_last = self._ended_at is not None
        try:
            is_open = self._store_changed(is_last=is_last)
        except (LeaseGone, Conflict, NotFound):
            self._end()  # the run is another worker's, or its execution has ended
        except (Unavailable, OutOfRoom, *AWAY) as exc:
            self._wait_for_better(exc)
        except Exception as exc:
            # A mistake about one attempt costs that attempt.
            self.problem, self.is_lost = f"its files could not be stored: {exc!r}", True
            self._end()
            raise
        else:
            if is_last:
                self._end()
            elif is_open:
                self.look_in(self._wait)
                self._wait = min(self._wait * 1.5, _LATE_SECONDS)
            else:
                self._wait = _SOON_SECONDS

    def _wait_for_better(self, exc: Exception) -> None:
        connections.close_all()
        if self._ended_at is not None and time.monotonic() > self._ended_at + PATIENCE_SECONDS:
            self.problem, self.is_lost = f"its files could not be stored: {exc}", True
            self._end()
        else:
            self.look_in(_PAUSE_SECONDS)

    def _end(self) -> None:
        if self._refused and not self.problem:
            more = len(self._refused) - _MOST_TOLD
            first = islice(self._refused.items(), _MOST_TOLD)
            told = "; ".join(f"{files.shown(path)}: {why}" for path, why in first)
            self.problem = f"could not be stored: {told}" + (
                f"; and {more} more" if more > 0 else ""
            )
        self.close()
        self._on_end(self._claim.attempt_id)

    def _store_changed(self, *, is_last: bool) -> bool:
        """Store what is new; return whether something is still being written."""
        is_open = False
        with _Batch() as batch:
            for found in files.find_changed(self.directory, self._known):
                if self._is_over:
                    break
                if not batch.has_room_for(found.stamp.size):
                    self._store(batch)
                try:
                    is_open |= not self._take(found, batch, is_last=is_last)
                except GyozaError as exc:
                    self._refuse(found.path, found.stamp, exc)
            self._store(batch)
        return is_open

    def _take(self, found: Found, batch: _Batch, *, is_last: bool) -> bool:
        """Read a file that is to be stored, unless it is still being written."""
        if not (is_last or files.is_closed(found.file)):
            return False
        # Before it is read: one that is far too long would take as much of the disk first.
        storage.check_length(found.stamp.size)
        with ExitStack() as lent:
            pieces = iter(partial(os.read, found.file, _PIECE_BYTES), b"")
            content = lent.enter_context(storage.gathered(pieces))
            if not is_last and not (
                files.Stamp.of(found.file) == found.stamp and files.is_closed(found.file)
            ):
                return False
            new = storage.file_of_stage(
                stage=self._stage, path=found.path, run_id=self._claim.run_id
            )
            if self._is_stored(new.name, found, content.sha256):
                self._note_stored(found.path, found.stamp, content)
            else:
                batch.add(_File(found.path, found.stamp, new, content), lent.pop_all())
        return True

    def _store(self, batch: _Batch) -> None:
        """Make the files of a batch objects, in one transaction; each is refused alone."""
        if not batch.files:
            return
        outcomes = storage.put_objects(
            execution_id=self._execution_id,
            wanted=[(one.new, one.content) for one in batch.files],
            first=self._hold,
        )
        refused: list[tuple[_File, GyozaError]] = []
        for one, outcome in zip(batch.files, outcomes, strict=True):
            if isinstance(outcome, GyozaError):
                refused.append((one, outcome))
            else:
                self._note_stored(one.path, one.stamp, one.content)
        batch.close()
        # Only now: this may give up the pass, and what is stored must not be stored again.
        for one, exc in refused:
            self._refuse(one.path, one.stamp, exc)

    def _note_stored(self, path: str, stamp: Stamp, content: Content) -> None:
        self._told[path] = content.sha256
        self._known[path] = stamp

    def _refuse(self, path: str, stamp: Stamp, exc: GyozaError) -> None:
        """Note that a file can't be an object; raise what is no matter of this file."""
        # The disk may have room again; the execution's quota won't.
        if isinstance(exc, (Unavailable, Conflict, NotFound)) or type(exc) is OutOfRoom:
            raise exc
        self._known[path] = stamp
        self._refused[path] = _why(exc)

    def _is_stored(self, name: str, found: Found, sha256: str) -> bool:
        known = self._known.get(found.path)
        if known is not None and known.is_as_written(found.stamp):
            return self._told.get(found.path) == sha256
        if self._sums is None:
            self._sums = stored.sums_of_run(self._claim.run_id, execution_id=self._execution_id)
        # Once: the same content written again is an object written again.
        return self._sums.pop(name, "") == sha256

    def _hold(self) -> None:
        """Lock the run, so that its lease stays this one until its object is there."""
        claim = self._claim
        if not scheduling.lock_lease(claim.run_id, attempt=claim.attempt, lease=claim.lease):
            raise LeaseGone


def _why(exc: GyozaError) -> str:
    errors = exc.detail.get("errors")
    return ", ".join(one["message"] for one in errors) if errors else exc.message
