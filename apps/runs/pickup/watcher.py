"""Hears of files as they are written (watchfiles) and has them picked up: one thread for all attempts of a worker."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import TYPE_CHECKING

from watchfiles import Change
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from apps.runs.pickup import files
from apps.runs.pickup.attempt import DEAF_SECONDS, Pickup
from apps.runs.pickup.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apps.runs.scheduling import Claim

log = logging.getLogger(__name__)

# What is written together is heard of together: twice the step after the last of it, at most this long after the first.
_STEP_MS, _MOST_MS = 1, 5
# An op that has run for so long, twice at most, is listened to; the files of shorter ones are picked up when they end. Those
# that become so old within this time are begun to be listened to together: all others are listened to anew then, too.
_SHORT_SECONDS = 0.05
# After a mistake in listening.
_PAUSE_SECONDS = 0.25


class Watcher:
    """The pickups of a worker's attempts."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._pool = Pool()
        self._lock = threading.Lock()
        self._pickups: set[Pickup] = set()
        self._watched: dict[str, Pickup] = {}
        self._turn = threading.Event()
        self._wakes_at = math.inf
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="gyoza-watcher", daemon=True)

    def begin(self, claim: Claim, directory: Path) -> Pickup | None:
        """Return the pickup of an attempt; None if its files go nowhere, because it belongs to no execution."""
        if claim.execution_id is None or not claim.stage:
            return None
        pickup = Pickup(
            claim,
            execution_id=claim.execution_id,
            stage=claim.stage,
            directory=directory,
            pool=self._pool,
            on_end=self._on_end,
            on_due=self._look_by,
        )
        with self._lock:
            self._pickups.add(pickup)
            if self._thread.ident is None:
                self._thread.start()
        now = time.monotonic()
        pickup.look_in((now // _SHORT_SECONDS + 2) * _SHORT_SECONDS - now)
        return pickup

    def end(self, pickup: Pickup) -> None:
        """Store nothing more of an attempt."""
        pickup.close()
        with self._lock:
            self._pickups.discard(pickup)
            # Most have ended before anybody listened to them: the thread need not wake for them.
            if not self._watched:
                return
            self._forget(pickup)
            if not self._watched:
                self._turn.set()

    def _forget(self, pickup: Pickup) -> None:
        self._watched = {place: one for place, one in self._watched.items() if one is not pickup}

    def close(self) -> None:
        """End the thread and the pool; what is under way is finished."""
        for pickup in list(self._pickups):
            pickup.close()
        self._is_closed = True
        self._turn.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.close()

    def _look_by(self, due_at: float) -> None:
        if due_at < self._wakes_at:
            self._turn.set()

    def _run(self) -> None:
        heard: dict[str, Pickup] = {}
        notify: RustNotify | None = None
        while not self._is_closed:
            self._turn.clear()
            try:
                self._look_at_due()
                watched = self._to_be_heard(heard)
                # Those that have ended are forgotten when others begin, or none are left: to listen keeps a thread awake.
                if not watched.keys() <= heard.keys() or (heard and not watched):
                    before, notify = notify, self._listen(watched)
                    if before is not None:
                        # What both have heard of is looked at twice; what neither has would be late.
                        self._tell(before.watch(_STEP_MS, _STEP_MS, 1, None), watched)
                    for place, pickup in watched.items():
                        if place not in heard:
                            pickup.look()
                        # The one before may not yet have heard of what was written until now.
                        pickup.look_again()
                    heard = watched
                self._hear(notify, heard)
            except Exception as exc:
                # It can't tell of a name that is no UTF-8, and is of no use from then on. Whatever else an attempt has made
                # of its folder must not be the end of it for the others.
                log.warning("files are listened to anew: %r", exc)
                for pickup in heard.values():
                    pickup.look()
                time.sleep(_PAUSE_SECONDS)
                heard, notify = {}, None
            self._wakes_at = math.inf

    def _to_be_heard(self, heard: dict[str, Pickup]) -> dict[str, Pickup]:
        with self._lock:
            watched = {place: one for place, one in self._watched.items() if one.may_be_listened_to}
        for place in watched.keys() - heard.keys():
            # At the last moment: the listener follows a link to a folder to all that is behind it, and all others wait.
            if not files.is_place_to_listen(watched[place].directory):
                watched.pop(place).shun()
        return watched

    def _listen(self, watched: dict[str, Pickup]) -> RustNotify | None:
        names = [name for name in watched if os.path.isdir(name)]  # noqa: PTH112 - never raises
        if not names:
            return None
        try:
            try:
                return RustNotify(names, False, False, 0, True, False)
            except (FileNotFoundError, PermissionError):
                # A folder has just gone, or was shut. The last argument passes over such, but over a reached limit, too.
                return RustNotify(names, False, False, 0, True, True)
        except (OSError, WatchfilesRustInternalError) as exc:
            log.warning("files are looked for every %.0f s only: %s", DEAF_SECONDS, exc)
            return None

    def _hear(self, notify: RustNotify | None, heard: dict[str, Pickup]) -> None:
        wakes_at = self._next_due()
        if notify is None and heard:
            wakes_at = min(wakes_at, time.monotonic() + DEAF_SECONDS)
        seconds = max(0.0, wakes_at - time.monotonic())
        # Until here whoever has something due sets `_turn`, from here on who is due before.
        self._wakes_at = wakes_at
        if notify is None:
            if not self._turn.wait(None if seconds == math.inf else seconds):
                for pickup in heard.values():
                    pickup.look()
            return
        milliseconds = int(min(seconds, 3600) * 1000) + 1
        self._tell(notify.watch(_MOST_MS, _STEP_MS, milliseconds, self._turn), heard)

    def _next_due(self) -> float:
        with self._lock:
            return min((one.due_at for one in self._pickups), default=math.inf)

    def _look_at_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [one for one in self._pickups if one.due_at <= now]
            # An op that waits until those ahead of it have ended has no folder yet.
            begun = [one for one in due if one.has_ended or os.path.isdir(one.directory)]  # noqa: PTH112 - never raises
            for pickup in begun:
                if pickup.may_be_listened_to and pickup not in self._watched.values():
                    # Where its parent really is: an op may put a link in its place.
                    above = os.path.realpath(pickup.directory.parent)
                    self._watched.setdefault(f"{above}/{pickup.directory.name}", pickup)
        for pickup in begun:
            pickup.look_when_due()
        for pickup in set(due).difference(begun):
            pickup.postpone(_SHORT_SECONDS)

    def _tell(self, changes: set[tuple[int, str]] | str, heard: dict[str, Pickup]) -> None:
        """Have attempts look at the files that were heard of."""
        if isinstance(changes, str):
            return  # the time is over, or there is news of ours
        found: dict[Pickup, set[str]] = {}
        gone: set[str] = set()
        for change, path in changes:
            above = path
            while above not in heard:
                above, _, name = above.rpartition("/")
                if not name:
                    break
            else:
                found.setdefault(heard[above], set()).add(path[len(above) + 1 :])
                if above == path and change == Change.deleted:
                    gone.add(path)
        for owner, names in found.items():
            owner.look_at(names)
        for place in gone:
            # Should the op make it again, it must be listened to anew.
            with self._lock:
                self._forget(heard.pop(place))
