"""What queues hold: counters, jobs and dead letters. Sync, but for what the data plane asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core import pgarray, sql
from apps.core.digits import read_digits
from apps.topics.appending import batch
from apps.topics.errors import NotAQueue, TopicNotFound
from apps.topics.keeping import eviction, settling
from apps.topics.models import Topic
from apps.topics.names import can_be_looked_up
from apps.topics.queries import MAX_SEQ
from apps.topics.queues import stamps
from apps.topics.queues.errors import NoDeadLetters
from apps.topics.states import JobState, TopicKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Records that one look for dead letters passes at most, whoever they are from.
_WINDOW = 20_000


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """How many jobs of a queue can be claimed, are leased, were dead-lettered, and wait (topics v0 §18.9)."""

    ready: int
    in_flight: int
    dead_lettered: int
    delayed: int = 0
    is_paused: bool = False

    def wire(self) -> dict[str, object]:
        """Return the `queue` member of a topic's state; what is ours is there only when there is something to tell."""
        told: dict[str, object] = {
            "ready": self.ready,
            "in_flight": self.in_flight,
            "dead_lettered": self.dead_lettered,
        }
        if self.delayed:
            told["delayed"] = self.delayed
        if self.is_paused:
            told["paused"] = True
        return told


async def queue_counters(counts: Mapping[int, int]) -> dict[int, QueueCounters]:
    """Return the counters of queues, given by topic id how many live records each has."""
    found = await sql.run_async("topics/queues/queue_counters", **_asking(counts))
    return _counters(counts, found)


def queue_counters_now(counts: Mapping[int, int]) -> dict[int, QueueCounters]:
    """Do as `queue_counters` on Django's connection."""
    return _counters(counts, sql.run_bound("topics/queues/queue_counters", **_asking(counts)))


def _asking(counts: Mapping[int, int]) -> dict[str, Any]:
    return {"topic_ids": pgarray.bigints(list(counts)), "now": eviction.now_ms()}


def _counters(counts: Mapping[int, int], found: sql.Result) -> dict[int, QueueCounters]:
    # A queue of which no job was ever claimed has no row.
    counters = {topic_id: QueueCounters(count, 0, 0) for topic_id, count in counts.items()}
    for row in found.rows:
        counters[row["topic_id"]] = QueueCounters(
            ready=max(counts[row["topic_id"]] - row["in_flight"] - row["delayed"], 0),
            in_flight=row["in_flight"],
            dead_lettered=row["dead_lettered"],
            delayed=row["delayed"],
            is_paused=row["is_paused"],
        )
    return counters


async def count_leases() -> int:
    """Return how many leases on live jobs have not expired, over all queues."""
    found = await sql.run_async("topics/queues/count_leases", now=eviction.now_ms())
    return int(found.rows[0]["leases"])


@dataclass(frozen=True, slots=True)
class Overview:
    """A queue in a list."""

    name: str
    counters: QueueCounters
    oldest_age_ms: int | None


def list_queues(prefix: str = "") -> list[Overview]:
    """Return the queues whose names begin so, by name, with their counters as they are now."""
    topics = Topic.objects.filter(kind=TopicKind.QUEUE, name__startswith=prefix).order_by("name")
    found = list(topics)
    counters = queue_counters_now({topic.pk: topic.count for topic in found})
    now = eviction.now_ms()
    return [
        Overview(
            name=topic.name,
            counters=counters[topic.pk],
            oldest_age_ms=None if topic.earliest_ts is None else max(now - topic.earliest_ts, 0),
        )
        for topic in found
    ]


def get_queue(name: str) -> Topic:
    """Return the topic of a queue; raises TopicNotFound or NotAQueue."""
    topic = Topic.objects.filter(name=name).first() if can_be_looked_up(name) else None
    if topic is None:
        raise TopicNotFound.of(name)
    if topic.kind != TopicKind.QUEUE:
        raise NotAQueue.of(name)
    return topic


@dataclass(frozen=True, slots=True)
class Peeked:
    """A job, looked at without being touched."""

    seq: int
    ts: int
    tag: str | None
    data: str
    deliveries: int
    # What it is: `ready`, `leased` or `delayed`; until when; and whose it is.
    state: str
    until: int | None
    node: str | None


def peek_jobs(name: str, *, after: int = 0, limit: int) -> list[Peeked]:
    """Return the next live jobs of a queue by seq, whatever their state; raises as `get_queue`."""
    topic = get_queue(name)
    settling.settle(name)
    now = eviction.now_ms()
    rows = sql.run_bound("topics/queues/peek_jobs", topic_id=topic.pk, after=after, limit=limit)
    return [_peeked(row, now) for row in rows.rows]


def _peeked(row: dict[str, Any], now: int) -> Peeked:
    waits = row["state"] in (JobState.LEASED, JobState.DELAYED) and row["due"] > now
    is_leased = waits and row["state"] == JobState.LEASED
    return Peeked(
        seq=row["seq"],
        ts=row["ts"],
        tag=None if row["tag"] is None else batch.unescape(row["tag"]),
        data=row["data"],
        deliveries=row["deliveries"] or 0,
        state="leased" if is_leased else "delayed" if waits else "ready",
        until=row["due"] - is_leased if waits else None,
        node=batch.unescape(row["node"]) if is_leased else None,
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job in the dead-letter topic, without the stamps; texts as they are stored."""

    seq: int
    ts: int
    tag: str | None
    node: str | None
    data: str
    meta: bytes | None
    size: int
    src_seq: int | None
    deliveries: int | None


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Dead letters of one queue after a cursor, and the cursor that follows them."""

    topic: str
    letters: list[DeadLetter]
    next_from_seq: int
    caught_up: bool


def read_dead_letters(
    name: str, *, from_seq: int = 0, limit: int, seqs: Sequence[int] | None = None
) -> DeadLetters:
    """Return the dead letters of a queue, oldest first; of `seqs` only if given.

    Raises NoDeadLetters if the queue names no dead-letter topic, else as `get_queue`. One look passes a bounded number
    of records, so a page may be empty and not the last.
    """
    dead = dead_letter_topic(name)
    settling.settle(dead)
    return find_dead_letters(name, dead, from_seq=from_seq, limit=limit, seqs=seqs)


def dead_letter_topic(name: str) -> str:
    """Return the name of the topic where a queue's dead letters go; raises as `read_dead_letters`."""
    dead: str | None = get_queue(name).dead_letter
    if dead is None:
        raise NoDeadLetters.of(name)
    return dead


def find_dead_letters(
    name: str, dead: str, *, from_seq: int = 0, limit: int, seqs: Sequence[int] | None = None
) -> DeadLetters:
    """Do as `read_dead_letters`, for a caller that has seen to the retention of the topic `dead`."""
    wanted = None if seqs is None else [seq for seq in seqs if seq <= MAX_SEQ]
    rows = sql.run_bound(
        "topics/queues/read_dead_letters",
        name=dead,
        origin=stamps.text_of(name),
        after=min(from_seq, MAX_SEQ),
        seqs=None if wanted is None else pgarray.bigints(wanted),
        limit=limit,
        window=_WINDOW,
    ).rows
    if not rows:
        # Nothing was ever moved there.
        return DeadLetters(dead, [], from_seq, caught_up=True)
    letters = [letter for row in rows if (letter := _letter(name, row)) is not None]
    last = rows[-1]["seq"] if rows[-1]["is_full"] else rows[0]["scanned_to"]
    return DeadLetters(dead, letters, max(last, from_seq), caught_up=last >= rows[0]["head"])


def _letter(name: str, row: dict[str, Any]) -> DeadLetter | None:
    if row["seq"] is None:
        return None
    found, meta = stamps.remove(row["meta"])
    # The statement has looked at the text only: it may be deep inside somebody's own meta.
    if found.get(stamps.FROM) != name:
        return None
    src_seq, deliveries = found.get(stamps.SRC_SEQ, ""), found.get(stamps.DELIVERIES, "")
    return DeadLetter(
        seq=row["seq"],
        ts=row["ts"],
        tag=row["tag"],
        node=row["node"],
        data=row["data"],
        meta=meta,
        size=batch.compact_length(row["data"].encode())
        + (batch.compact_length(meta) if meta else 0),
        src_seq=read_digits(src_seq),
        deliveries=read_digits(deliveries),
    )
