"""A segment in which only a little is live is emptied: what is live joins an older one, and the segment can be dropped.

So the number of segments follows what is live, not what was ever written, however long a few records are kept.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from apps.core import clock, sql
from apps.topics.models import Topic

if TYPE_CHECKING:
    from apps.topics.disk.segments import Segment

# A segment with more live records than this part is worth its place.
_SHARE = 16
# Writers to a topic wait while so many of its records are moved: some milliseconds.
_BATCH = 500
# To look at a segment costs microseconds per topic; one at a time, in turn.
_TURN_SECONDS = 10


def gather(closed: list[Segment], *, until: float) -> None:
    """Empty one of the segments that nobody writes to any more, if little in it is live.

    Stops at this reading of the monotonic clock; what is left then is found again.
    """
    later = closed[1:]
    if not later:
        return
    place = int(clock.now().timestamp() / _TURN_SECONDS) % len(later)
    segment, older = later[place], closed[place]
    most = settings.GYOZA_SEGMENT_RECORDS // _SHARE
    spans = sql.run_composed("topics/disk/list_live_spans", segment=segment.name, most=most).rows
    if not spans or spans[-1]["total"] > most:
        return
    for span in spans:
        while time.monotonic() < until and _move(span["topic_id"], segment, older):
            pass


def _move(topic_id: int, segment: Segment, older: Segment) -> bool:
    """Say whether there may be more to move."""
    assert older.high is not None  # noqa: S101 - only the open segment has no end
    with transaction.atomic():
        topic = Topic.objects.select_for_update(no_key=True).filter(pk=topic_id).first()
        if topic is None:
            return False
        moved = sql.run(
            "topics/disk/move_records",
            topic_id=topic_id,
            low=segment.low,
            high=segment.high,
            earliest=topic.earliest,
            to=older.high - 1,
            batch=_BATCH,
        )
    return moved.count == _BATCH
