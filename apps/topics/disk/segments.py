"""The segments of the log: partitions of `topics_event` by id, dropped when nothing in them is live (ADR 0023).

The newest has no upper bound, so that an append always finds its place. It gets one while it is still empty, and another
is opened behind it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import OperationalError, transaction
from psycopg.errors import LockNotAvailable

from apps.core import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# Everybody waits behind a lock of the whole log: rather try again with the next sweep.
_CUT_WAIT_MS = 100
# Nobody waits behind a detachment; it waits for whoever has the log open, a backup perhaps.
_DETACH_WAIT_MS = 5_000


@dataclass(frozen=True, slots=True)
class Segment:
    """Records with ids from `low` to below `high`; None is no bound."""

    name: str
    detaching: bool
    low: int | None
    high: int | None


def all_segments() -> list[Segment]:
    """Return the segments, oldest first."""
    return [Segment(**row) for row in sql.run("topics/disk/list_segments").rows]


def move_horizon() -> int:
    """Return an id below which nobody is writing any more, and look anew for the next time."""
    reached = sql.run("topics/disk/read_horizon").rows
    sql.run("topics/disk/move_horizon", last_id=last_id())
    return reached[0]["id"] if reached else 0


def last_id() -> int:
    """Return the newest id that was drawn for a record."""
    return int(sql.run("topics/disk/read_last_id").rows[0]["id"])


def open_ahead() -> None:
    """Close the open segment while it is empty and open another behind it, if records will come to it soon."""
    size = settings.GYOZA_SEGMENT_RECORDS
    newest = all_segments()[-1]
    low, last = newest.low or 0, last_id()
    if low - last > size // 2:
        return
    high = low + size
    if high - last <= size // 2:
        # Nobody has swept for long, and the segment is not empty: its records are read here while writers wait.
        high = last + size
    with _patient("opening a segment"), transaction.atomic():
        _wait_at_most(_CUT_WAIT_MS, in_transaction=True)
        sql.run_composed("topics/disk/detach_open_segment", segment=newest.name)
        if newest.low is None:
            sql.run_composed("topics/disk/attach_first_segment", segment=newest.name, high=high)
        else:
            sql.run_composed("topics/disk/attach_segment", segment=newest.name, low=low, high=high)
        sql.run_composed("topics/disk/open_segment", segment=f"topics_event_{high}", low=high)


def closed_segments(*, below: int) -> list[Segment]:
    """Return the segments with ids below a horizon, oldest first: nobody writes into them any more."""
    return [
        segment
        for segment in all_segments()
        if segment.high is not None and segment.high <= below and not segment.detaching
    ]


def drop_dead(*, below: int) -> list[str]:
    """Drop the segments that hold nothing but dead records, of those with ids below a horizon; return their names."""
    _finish()
    dropped = []
    for segment in closed_segments(below=below):
        if sql.run_composed("topics/disk/find_live_topic", segment=segment.name).rows:
            continue
        with _patient("dropping a segment"):
            _detach("topics/disk/detach_segment", segment.name)
            sql.run_composed("topics/disk/drop_segment", segment=segment.name)
            dropped.append(segment.name)
    return dropped


def _finish() -> None:
    """Drop what a process that died, or lost its patience, has detached."""
    for segment in all_segments():
        if segment.detaching:
            with _patient("detaching a segment"):
                _detach("topics/disk/finish_detaching", segment.name)
    for row in sql.run("topics/disk/list_detached").rows:
        sql.run_composed("topics/disk/drop_segment", segment=row["name"])


def _detach(statement: str, name: str) -> None:
    _wait_at_most(_DETACH_WAIT_MS, in_transaction=False)
    try:
        sql.run_composed(statement, segment=name)
    finally:
        sql.run("topics/disk/unlimit_lock_wait")


def _wait_at_most(milliseconds: int, *, in_transaction: bool) -> None:
    sql.run("topics/disk/limit_lock_wait", milliseconds=milliseconds, in_transaction=in_transaction)


@contextmanager
def _patient(doing: str) -> Iterator[None]:
    try:
        yield
    except OperationalError as exc:
        if not isinstance(exc.__cause__, LockNotAvailable):
            raise
        log.info("%s has to wait for the next sweep: the log is in use", doing)
