"""What pages for people show of topics: the admin's and the console's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from django.template.loader import render_to_string

from apps.core import clock
from apps.core.api.pagination import cut
from apps.core.errors import NotFound
from apps.topics import queries
from apps.topics.disk import segments
from apps.topics.models import Topic
from apps.topics.names import can_be_looked_up
from apps.topics.queues import queries as queues
from apps.topics.states import TopicKind
from apps.topics.vitals import throughput

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

    from apps.topics.queries import Stored
    from apps.topics.queues.queries import QueueCounters
    from apps.topics.vitals.throughput import Part as Part  # for those who draw it
    from apps.topics.vitals.throughput import Throughput as Throughput

# What a page shows of the end of a log.
LAST_RECORDS = 20


@dataclass(frozen=True)
class ShownTopic:
    """A topic as every reader sees it, and its last records, newest first, with the moments they were written."""

    row: Topic
    last: list[tuple[Stored, str]]

    @property
    def records(self) -> SafeString:
        """Write the last records as a table."""
        return render_to_string("topics/records.html", {"rows": self.last})

    @property
    def is_written_to(self) -> bool:
        """Say whether somebody else than the service may write to it."""
        return not queries.is_reserved(self.row.name)

    @cached_property
    def queue(self) -> QueueCounters | None:
        """Count the jobs of a queue, one query; None for a log."""
        if self.row.kind != TopicKind.QUEUE:
            return None
        return queues.queue_counters_now({self.row.pk: self.row.count})[self.row.pk]

    @cached_property
    def throughput(self) -> Throughput:
        """Measure what was written to it in the last minutes; one query."""
        return throughput.throughput(self.row.pk, now_ms=clock.milliseconds(clock.now()))

    @property
    def last_write(self) -> str | None:
        """Say when it was last written to."""
        return last_write(self.row)


def last_write(row: Topic) -> str | None:
    """Say when a topic was last written to."""
    return None if row.last_write_ts is None else clock.rfc3339_of_milliseconds(row.last_write_ts)


def topic(name: str) -> ShownTopic:
    """Return a topic with its last records. Raises NotFound."""
    found = Topic.objects.filter(name=name).first() if can_be_looked_up(name) else None
    shown = None if found is None else settled(found)
    if shown is None:
        raise NotFound(f"there is no topic {name}", topic=name)
    return shown


def settled(row: Topic) -> ShownTopic | None:
    """Return a topic after its last records were read, which has settled it; None if it is gone by now."""
    page = queries.read_after(row.name, max(0, row.head - LAST_RECORDS), LAST_RECORDS)
    fresh = Topic.objects.filter(pk=row.pk).first()
    records = page.records if page else []
    last = [(record, clock.rfc3339_of_milliseconds(record.ts)) for record in records[::-1]]
    return None if fresh is None else ShownTopic(fresh, last)


def records_ever() -> int:
    """Return about how many records were ever written, to all topics: a number that only rises, for rates."""
    return segments.last_id()


def listed(*, prefix: str, after: str, limit: int) -> tuple[list[Topic], bool]:
    """Return topics by name, and whether there are more. Their figures are those of their last use."""
    rows = Topic.objects.filter(name__startswith=prefix, name__gt=after)
    return cut(list(rows.order_by("name")[: limit + 1]), limit)
