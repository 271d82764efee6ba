"""What nobody can read any more: records below a topic's `earliest`, those of deleted topics, keys past their window.

Records wait for their segment to be dropped, which costs next to nothing. Only what fills its segment more slowly than
that is deleted, and so deleting can't cost much.
"""

from __future__ import annotations

import time
from datetime import timedelta

from apps.core import clock, sql
from apps.topics.keeping import eviction
from apps.topics.models import Remains

# Above GYOZA_SEGMENT_RECORDS / GRACE records per second nothing is ever deleted one by one.
GRACE = timedelta(minutes=10)

# Short statements: their locks and snapshots last for milliseconds.
_BATCH = 5_000
_TOPICS_AT_ONCE = 1_000


def note() -> None:
    """Note what is dead and not yet noted."""
    sql.run_bound("topics/disk/note_remains", due_at=clock.now() + GRACE)


def delete_due(*, until: float) -> None:
    """Delete noted records whose grace has passed, until this reading of the monotonic clock."""
    due = Remains.objects.filter(due_at__lte=clock.now()).order_by("due_at")
    for remains in due[:_TOPICS_AT_ONCE]:
        if not _delete(remains, until=until):
            return


def delete_expired_keys(*, until: float) -> None:
    """Delete idempotency keys whose window has passed, and those of deleted topics."""
    more = True
    while more and time.monotonic() < until:
        now = eviction.now_ms()
        more = sql.run_bound("topics/disk/delete_expired_keys", now=now, batch=_BATCH).count > 0


def _delete(remains: Remains, *, until: float) -> bool:
    """Say whether all of it is gone; else it goes on from there next time."""
    first: int | None = remains.first
    while first is not None:
        if time.monotonic() >= until:
            Remains.objects.filter(pk=remains.pk).update(first=first)
            return False
        [row] = sql.run_bound(
            "topics/disk/delete_dead_records",
            topic_id=remains.topic_id,
            first=first,
            below=remains.below,
            batch=_BATCH,
        ).rows
        first = None if row["seq"] is None else row["seq"] + 1
    sql.run_bound("topics/disk/settle_remains", topic_id=remains.topic_id, below=remains.below)
    return True
