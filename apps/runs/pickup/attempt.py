"""The files of one attempt: each becomes an object of its run's stage, once for each time it was written."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from django.db import connections

from apps.core.errors import Conflict, GyozaError, NotFound, OutOfRoom, Unavailable
from apps.core.sql import AWAY
from apps.runs import scheduling
from apps.runs.pickup import files
from apps.runs.pickup.batch import Batch, File
from apps.storage import queries as stored
from apps.storage import services as storage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path
    from uuid import UUID

    from apps.runs.pickup.files import Found, Stamp
    from apps.runs.pickup.pool import Pool
    from apps.runs.scheduling import Claim
    from apps.storage.services import Content

log = logging.getLogger(__name__)

_PIECE_BYTES = 1024 * 1024
# A file that is still open is looked at again so soon, and then ever less often.
_SOON_SECONDS, _LATE_SECONDS = 0.005, 0.25
# What was heard of is looked at by name, and a little later everything is: a folder is listened to only some moments after it
# was made, and what was written into it by then has not been heard of. To look at a file takes about 3 µs, into a folder 30 µs.
_ONCE_MORE_SECONDS, _ONCE_MORE_SECONDS_PER_FILE, _ONCE_MORE_SECONDS_PER_FOLDER = 0.25, 6e-5, 6e-4
# Wait after the storage backend, its disk or Postgres has refused, whatever is heard meanwhile.
_PAUSE_SECONDS = 1.0
# Where nothing can be heard (links to folders, no inotify watches left), it is looked at so often.
DEAF_SECONDS = 1.0
# For how long an attempt that has ended waits for them, before it counts as lost and is made again.
PATIENCE_SECONDS = 300.0
# For how long an attempt stores without a break what it has found while others wait.
_TURN_SECONDS = 0.5
# A file that is larger is copied in a thread that others don't wait for.
_LARGE_BYTES = 8 * _PIECE_BYTES
# How many refusals an error message names.
_MOST_TOLD = 5


class LeaseGone(Exception):
    """The run is no longer this worker's: what its op writes is of no interest."""


class TurnOver(Exception):
    """Others are to have a thread, or this attempt one for a large file; there is more to store."""


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
        pool: Pool,
        on_end: Callable[[str], None],
        on_due: Callable[[float], None],
    ) -> None:
        self.directory = directory
        self.problem = ""
        self.is_lost = False  # the problem is this worker's, or passes
        self.may_be_listened_to = True
        self._claim = claim
        self._execution_id = execution_id
        self._stage = stage
        self._pool = pool
        self._on_end = on_end
        self._on_due = on_due
        self._lock = threading.Lock()
        self._known: dict[str, Stamp] = {}
        self._told: dict[str, str] = {}
        self._folders = 0  # as many as there were when all was looked at
        self._sums: dict[str, str] | None = {}
        self._is_running = False
        self._wants_long_turn = self._has_long_turn = False
        self._is_over = False
        self._ended_at: float | None = None
        # What to look at next.
        self._is_all_asked = False
        self._named: set[str] = set()
        self._open: set[str] = set()  # those that are still being written
        self._wait = _SOON_SECONDS
        # When to look again, though nothing has been heard; infinity = not at all.
        self.due_at = self._all_due_at = self._open_due_at = math.inf
        self._is_resting = False  # until all is looked at again: to store something was of no use
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
            self._be_due(all_at=math.inf, open_at=math.inf)
            self._is_all_asked = True
            self._wake()

    def look_at(self, names: Collection[str]) -> None:
        """Do as `look` for the files and folders of these names, and for all of them after a while."""
        with self._lock:
            if self._is_resting:
                return
            self._named.update(names)
            self._wake()
        self.look_again()

    def look_again(self) -> None:
        """Look after a while, for what has not been heard of."""
        self.look_in(max(_ONCE_MORE_SECONDS, self._seconds_between()))

    def shun(self) -> None:
        """Look now and then: it can't be listened to, as long as a look finds it so."""
        self.may_be_listened_to = False
        self.look_in(max(DEAF_SECONDS, self._seconds_between()))

    def look_when_due(self) -> None:
        """Do as `look` if that is due, else for the files that were still being written."""
        if self._all_due_at <= time.monotonic():
            self.look()
            return
        with self._lock:
            self._be_due(open_at=math.inf)
            self._named.update(() if self._is_resting else self._open)
            self._wake()

    def look_in(self, seconds: float) -> None:
        """Look after a while, if nothing makes it look before."""
        with self._lock:
            due_at = time.monotonic() + seconds
            if self._is_over or self._all_due_at <= due_at:
                return
            if self._is_resting and self._all_due_at < math.inf:
                return
            self._be_due(all_at=due_at)
        self._on_due(due_at)

    def postpone(self, seconds: float) -> None:
        """Look later than was said: its op has not begun. For the watcher's thread."""
        with self._lock:
            if not self._is_over:
                self._be_due(all_at=time.monotonic() + seconds)

    def finish(self) -> bool:
        """Say whether all its files are objects, now that its op has ended; if not, `on_end` will be called."""
        with self._lock:
            if self._is_over:
                return True
            if self._ended_at is not None:
                return False
            is_idle = not (self._is_running or self._refused)
            if is_idle and not files.has_any(self.directory):
                self._is_over = True
                return True
            self._ended_at = time.monotonic()
        self.look()
        return False

    def close(self) -> None:
        """Store nothing more."""
        with self._lock:
            self._is_over = True
            self._be_due(all_at=math.inf, open_at=math.inf)

    def _be_due(self, *, all_at: float | None = None, open_at: float | None = None) -> None:
        if all_at is not None:
            self._all_due_at = all_at
        if open_at is not None:
            self._open_due_at = open_at
        self.due_at = min(self._all_due_at, self._open_due_at)

    def _seconds_between(self) -> float:
        # Longer, the more there are: to look at all must not take much of a worker's time.
        files_seconds = len(self._known) * _ONCE_MORE_SECONDS_PER_FILE
        return files_seconds + self._folders * _ONCE_MORE_SECONDS_PER_FOLDER

    def _wake(self) -> None:
        """Have a thread do what is asked for, unless one is about to; under the lock."""
        if (self._is_all_asked or self._named) and not (self._is_running or self._is_over):
            self._is_running = True
            self._pool.submit(self._run, is_long=self._wants_long_turn)

    def _run(self) -> None:
        """Have a turn, and another as long as nobody waits for one."""
        self._has_long_turn, self._wants_long_turn = self._wants_long_turn, False
        try:
            while (names := self._take_asked()) is not None:
                self._pass(names or None)
                if self._pool.is_awaited or self._has_long_turn or self._wants_long_turn:
                    break
        finally:
            connections.close_all()
            with self._lock:
                self._is_running = False
                self._wake()

    def _take_asked(self) -> set[str] | None:
        """Return the names that are asked for; none of them if it is all, None if it is nothing."""
        with self._lock:
            is_asked = (self._is_all_asked or self._named) and not self._is_over
            names = set() if self._is_all_asked else self._named
            if self._is_all_asked:
                self._is_resting = False
            self._is_all_asked, self._named = False, set()
            return names if is_asked else None

    def _pass(self, names: set[str] | None) -> None:
        """Store what is new of the files of some names, or of all."""
        is_last = self._ended_at is not None
        try:
            still_open = self._store_changed(None if is_last else names, is_last=is_last)
        except TurnOver:
            self.look()
        except LeaseGone:
            self._end()
        except (Conflict, NotFound) as exc:
            # Its execution has ended; one that is tried again may be a moment behind its runs.
            if is_last:
                self.problem = f"its files could not be stored: {exc}"
                self._end()
            else:
                self._rest()
        except (Unavailable, OutOfRoom, *AWAY) as exc:
            self._wait_for_better(exc)
        except Exception as exc:
            # A mistake about one attempt costs that attempt.
            self.problem, self.is_lost = f"its files could not be stored: {exc!r}", True
            log.exception("the files of attempt %s could not be stored", self._claim.attempt_id)
            self._end()
        else:
            if is_last:
                self._end()
                return
            self._note_open(still_open, names)
            if not self.may_be_listened_to:
                self.shun()

    def _note_open(self, still_open: set[str], looked_at: set[str] | None) -> None:
        with self._lock:
            others = set() if looked_at is None else self._open - looked_at
            self._open = others | still_open
            if not self._open:
                self._wait = _SOON_SECONDS
            if not still_open or self._is_over:
                return
            due_at = time.monotonic() + self._wait
            self._be_due(open_at=min(self._open_due_at, due_at))
            self._wait = min(self._wait * 1.5, _LATE_SECONDS)
        self._on_due(due_at)

    def _wait_for_better(self, exc: Exception) -> None:
        connections.close_all()
        if isinstance(exc, AWAY):
            self._sums = None  # perhaps the transaction was made, and nobody heard
        if self._ended_at is not None and time.monotonic() > self._ended_at + PATIENCE_SECONDS:
            self.problem, self.is_lost = f"its files could not be stored: {exc}", True
            self._end()
        else:
            self._rest()

    def _rest(self) -> None:
        with self._lock:
            self._is_resting, self._named = True, set()
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

    def _store_changed(self, names: set[str] | None, *, is_last: bool) -> set[str]:
        """Store what is new; return the names of what is still being written."""
        still_open = set()
        passed = files.Passed()
        turn_ends_at = time.monotonic() + _TURN_SECONDS
        changed = (
            files.find_changed(self.directory, self._known, passed)
            if names is None
            else files.find_changed_of(self.directory, names, self._known, passed)
        )
        with Batch() as batch:
            for found in changed:
                if self._is_over:
                    break
                if not batch.has_room_for(found.stamp.size):
                    self._store(batch)
                    if self._pool.is_awaited and time.monotonic() > turn_ends_at:
                        raise TurnOver
                try:
                    is_taken = self._take(found, batch, is_last=is_last)
                except GyozaError as exc:
                    self._refuse(found.path, found.stamp, exc)
                    continue
                if not is_taken:
                    still_open.add(found.path)
                elif self._has_long_turn and found.stamp.size > _LARGE_BYTES:
                    self._store(batch)
                    raise TurnOver
            self._store(batch)
        if is_last:
            self._refused.update({path: str(why.strerror) for path, why in passed.unread.items()})
        if names is None:
            self._folders = passed.folders
        if names is None or passed.is_no_place_to_listen:
            self.may_be_listened_to = not passed.is_no_place_to_listen
        return still_open

    def _take(self, found: Found, batch: Batch, *, is_last: bool) -> bool:
        """Read a file that is to be stored, unless it is still being written."""
        if not (is_last or files.is_closed(found.file)):
            return False
        # Before it is read: one that is far too long would take as much of the disk first.
        storage.check_length(found.stamp.size)
        if found.stamp.size > _LARGE_BYTES and not self._has_long_turn:
            self._wants_long_turn = True
            raise TurnOver
        with ExitStack() as lent:
            pieces = iter(partial(os.read, found.file, _PIECE_BYTES), b"")
            content = lent.enter_context(storage.gathered(pieces))
            if not is_last and not (
                files.Stamp.of(found.file) == found.stamp and files.is_closed(found.file)
            ):
                return False
            stamp = found.stamp.settled()
            new = storage.file_of_stage(
                stage=self._stage, path=found.path, run_id=self._claim.run_id
            )
            if self._is_stored(new.name, found, content.sha256):
                self._note_stored(found.path, stamp, content)
            else:
                batch.add(File(found.path, stamp, new, content), lent.pop_all())
        return True

    def _store(self, batch: Batch) -> None:
        """Make the files of a batch objects, in one transaction; each is refused alone."""
        if not batch.files:
            return
        outcomes = storage.put_objects(
            execution_id=self._execution_id,
            wanted=[(one.new, one.content) for one in batch.files],
            first=self._hold,
        )
        refused: list[tuple[File, GyozaError]] = []
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
        self._refused.pop(path, None)

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
            sums = stored.sums_of_run(self._claim.run_id, execution_id=self._execution_id)
            told = {f"{self._stage}/{path}": sha256 for path, sha256 in self._told.items()}
            self._sums = dict(sums.items() - told.items())
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
