"""The sweep of the log: gives back the disk that retention, deletions and idempotency keys have left behind."""

from __future__ import annotations

import logging
import time

from django.db import transaction

from apps.core import sql
from apps.topics.disk import remains, remnants, segments
from apps.topics.keeping import eviction
from apps.topics.queues import leftovers

log = logging.getLogger(__name__)

# A sweep comes every ten seconds: at most a fifth of the time it deletes, and a fifth it moves.
_DELETE_SECONDS = 2.0
_TOPICS_AT_ONCE = 1_000


def trim_records() -> bool:
    """Free the disk of what nobody can read any more; say whether this process had its turn.

    One process at a time does it, in short statements and transactions. What it doesn't get to, the next one does.

    1. Retention is judged for topics that nobody reads.
    2. Segments are opened ahead, and dropped when nothing in them is live.
    3. What has been dead for longer is deleted.
    4. What is live in a segment that is nearly dead joins an older one, so that the segment can be dropped.
    """
    if not sql.run("topics/disk/take_sweep").rows[0]["taken"]:
        return False
    try:
        written_below = segments.move_horizon()
        _settle_due_topics()
        segments.open_ahead()
        for name in segments.drop_dead(below=written_below):
            log.info("dropped segment %s", name)
        until = time.monotonic() + _DELETE_SECONDS
        leftovers.forget_deleted()
        _merge_tally()
        remains.note()
        remains.delete_due(until=until)
        remains.delete_expired_keys(until=until)
        closed = segments.closed_segments(below=written_below)
        remnants.gather(closed, until=time.monotonic() + _DELETE_SECONDS)
    finally:
        sql.run("topics/disk/leave_sweep")
    return True


def _merge_tally() -> None:
    """Keep the tally short where nobody creates topics that are counted."""
    with transaction.atomic():
        sql.run("topics/lock_quota")
        sql.run("topics/count_topics")


def _settle_due_topics() -> None:
    until = time.monotonic() + _DELETE_SECONDS
    due = sql.run_bound("topics/list_due_topics", now=eviction.now_ms(), limit=_TOPICS_AT_ONCE)
    for row in due.rows:
        if time.monotonic() >= until:
            return
        eviction.evict_due(row["name"])
