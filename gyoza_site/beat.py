"""What beat goes by: our own sweeps, which are in the code, and the schedules of pipelines, which are in Postgres.

Sweeps are due by the clock alone and must be sent while Postgres is away, too: nothing about them is stored, and so
nobody can change, disable or forget to remove one.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery.beat import ScheduleEntry
from django.db import DatabaseError, InterfaceError, close_old_connections
from django_celery_beat.schedulers import DatabaseScheduler

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

log = logging.getLogger(__name__)

# How long Postgres is left alone when it has not answered: each look may wait for a connection, and sweeps wait with it.
BLIND_SECONDS = 5.0


class Scheduler(DatabaseScheduler):  # type: ignore[misc]
    """Sends what `beat_schedule` of the Celery application names, and the tasks that Postgres has."""

    # Empty in an instance that only tells about itself.
    _sweeps: Mapping[str, ScheduleEntry] = {}
    _blind_until = 0.0
    _last_timestamp: datetime | None = None
    _schedule: Mapping[str, Any] | None = None

    def setup_schedule(self) -> None:
        """Take the sweeps as they are written; rows are read with the first tick."""
        self._sweeps = {
            name: ScheduleEntry(app=self.app, name=name, **entry)
            for name, entry in self.app.conf.beat_schedule.items()
        }

    @property
    def schedule(self) -> Mapping[str, Any]:
        """Return all entries by name; while Postgres is away, those of it that were read before."""
        if time.monotonic() >= self._blind_until:
            try:
                return {**super().schedule, **self._sweeps}
            except (DatabaseError, InterfaceError) as exc:
                log.warning("beat can't read the schedules of pipelines: %s", exc)
                self._blind_until = time.monotonic() + BLIND_SECONDS
                self._initial_read = True
        return {**(self._schedule or {}), **self._sweeps}

    def schedule_changed(self) -> bool:
        """Say whether rows may have changed since this was asked last."""
        close_old_connections()
        seen, self._last_timestamp = self._last_timestamp, self.Changes.last_change()
        # Not whether it is later: of two changes the one that is told later may have been made before.
        return bool(self._last_timestamp != seen)

    def reserve(self, entry: Any) -> Any:
        """Note that an entry is being sent, and return the one that is sent after it."""
        if entry.name in self._sweeps:
            following = next(entry)
            self._sweeps = {**self._sweeps, entry.name: following}
        else:
            following = super().reserve(entry)
            # Else an entry that was just sent would be sent again when the heap is made anew.
            self._schedule = {**(self._schedule or {}), entry.name: following}
        return following
