"""The figures of topics v0 §20: of the whole system from Postgres, of this process from its memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from apps.core import lifespan, sql
from apps.core.exposition import Series, counter, gauge, histogram, labelled
from apps.core.sse import connections
from apps.topics.keeping import eviction
from apps.topics.queues import queries as queue_queries
from apps.topics.routers import queries as router_queries
from apps.topics.states import Durability, TopicKind
from apps.topics.vitals import commits
from apps.topics.watch import sessions

if TYPE_CHECKING:
    from apps.topics.queues.queries import QueueCounters
    from apps.topics.routers.queries import RouterLag
    from apps.topics.vitals.commits import Commits

JSON = Any

# §4.1: topics that have series of their own.
MOST_TOPICS = 1000
# Of routers likewise, in the order of their names.
MOST_ROUTERS = 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """What Postgres knows."""

    topics: int
    by_class: dict[str, int]
    records: int
    bytes: int
    queues: int
    routers: int
    leases: int
    watch_sessions: int
    lags: list[RouterLag] = field(default_factory=list)
    first: list[dict[str, Any]] = field(default_factory=list)
    first_queues: dict[int, QueueCounters] = field(default_factory=dict)


async def gather(*, by_topic: bool) -> Figures | None:
    """Return the figures of the whole system, with those of the first topics if asked to; None without Postgres."""
    try:
        return await _gather(by_topic=by_topic)
    except psycopg.OperationalError:
        return None


def as_series(found: Figures | None, wal: Commits = commits.here) -> list[Series]:
    """Return the series for Prometheus; without Postgres those of this process."""
    return [*(_of_system(found) if found else []), *_of_process(found), *_of_writer(wal)]


def as_json(found: Figures | None, wal: Commits = commits.here) -> dict[str, JSON]:
    """Return the JSON form; without Postgres the members of this process."""
    shown: dict[str, JSON] = {}
    if found:
        shown["topics"] = found.topics
        shown |= {f"topics_{name}": count for name, count in found.by_class.items()}
        shown |= {
            "routers": found.routers,
            "records_live": found.records,
            "bytes_live": found.bytes,
            "queue_topics": found.queues,
            "queue_leases_in_flight": found.leases,
        }
    shown["sse_connections"] = connections.count()
    if found:
        shown["watch_sessions"] = found.watch_sessions
    return {
        **shown,
        "ready": _is_ready(found),
        "replay_progress": float(found is not None),
        "uptime_ms": lifespan.uptime_ms(),
        "wal": {
            "fsyncs": wal.fsyncs,
            "frames": wal.frames,
            "batches": wal.batches,
            "bytes_written": wal.bytes_written,
            "rotations": 0,
            "queue_depth": wal.queue_depth,
            "queue_depth_peak": wal.queue_depth_peak,
            "submit_full_total": wal.submit_full,
            "read_only": 0,
            "fsync_count": wal.fsyncs,
            "fsync_micros_total": wal.fsync_micros,
        },
    }


async def _gather(*, by_topic: bool) -> Figures:
    [total] = (await sql.run_async("topics/measure_topics")).rows
    first = await _first_topics() if by_topic else []
    queues = {row["id"]: row["count"] for row in first if row["kind"] == TopicKind.QUEUE}
    return Figures(
        topics=total["topics"],
        by_class={name: total[name] for name in map(str, Durability)},
        records=total["records"],
        bytes=total["bytes"],
        queues=total["queues"],
        routers=await router_queries.count_routers(),
        lags=await router_queries.router_lags(limit=MOST_ROUTERS) if by_topic else [],
        leases=await queue_queries.count_leases(),
        watch_sessions=await sessions.count(),
        first=first,
        first_queues=await queue_queries.queue_counters(queues) if queues else {},
    )


async def _first_topics() -> list[dict[str, Any]]:
    rows = await _read_first_topics()
    # §8.2: retention is judged for the metrics of queues.
    due = [row["name"] for row in rows if row["unsettled"] and row["kind"] == TopicKind.QUEUE]
    for name in due:
        await eviction.evict_due_async(name)
    return await _read_first_topics() if due else rows


async def _read_first_topics() -> list[dict[str, Any]]:
    found = await sql.run_async("topics/first_topics", limit=MOST_TOPICS, now=eviction.now_ms())
    return found.rows


def _is_ready(found: Figures | None) -> bool:
    return found is not None and not lifespan.is_draining()


def _of_system(found: Figures) -> list[Series]:
    return [
        gauge("topics_topics", "Topics.", found.topics),
        labelled("topics_topics_by_class", "Topics per durability class.", "class", found.by_class),
        gauge("topics_routers", "Routers.", found.routers),
        labelled(
            "topics_router_lag",
            "Seqs of its source that a router has not dealt with.",
            "router",
            {row.name: row.lag for row in found.lags},
        ),
        gauge("topics_records_live", "Live records of all topics.", found.records),
        gauge("topics_bytes_live", "Bytes of the live records of all topics.", found.bytes),
        _by_topic("topics_topic_head_seq", "Newest seq handed out.", found.first, "head"),
        _by_topic("topics_topic_earliest_seq", "Oldest live seq.", found.first, "earliest"),
        _by_topic("topics_topic_records_live", "Live records.", found.first, "count"),
        _by_topic("topics_topic_bytes_live", "Bytes of the live records.", found.first, "bytes"),
        *_of_queues(found),
        gauge(
            "topics_topic_metrics_truncated",
            "1 if topics were left out above.",
            int(found.topics > len(found.first)),
        ),
        gauge("topics_queue_topics", "Topics that are queues.", found.queues),
        gauge("topics_queue_leases_in_flight", "Leases that have not expired.", found.leases),
        gauge("topics_watch_sessions", "Stored watch sessions.", found.watch_sessions),
    ]


def _of_queues(found: Figures) -> list[Series]:
    """Return the spec's two series of queues, and what is ours: delays, dead letters, and how old the oldest job is."""
    now = eviction.now_ms()
    queues = [
        (row["name"], found.first_queues[row["id"]], row["earliest_ts"])
        for row in found.first
        if row["id"] in found.first_queues
    ]

    def series(what: str, meaning: str, values: dict[str, float]) -> Series:
        return labelled(what, meaning, "topic", values)

    return [
        series(
            "topics_topic_queue_ready",
            "Jobs that can be claimed.",
            {name: counters.ready for name, counters, _ in queues},
        ),
        series(
            "topics_topic_queue_in_flight",
            "Jobs that are leased.",
            {name: counters.in_flight for name, counters, _ in queues},
        ),
        series(
            "topics_topic_queue_delayed",
            "Jobs that were given back with a delay.",
            {name: counters.delayed for name, counters, _ in queues},
        ),
        series(
            "topics_topic_queue_dead_lettered",
            "Jobs moved to the dead-letter topic.",
            {name: counters.dead_lettered for name, counters, _ in queues},
        ),
        series(
            "topics_topic_queue_oldest_age_ms",
            "Age of the oldest unfinished job.",
            {name: 0 if ts is None else max(now - ts, 0) for name, _, ts in queues},
        ),
    ]


def _of_process(found: Figures | None) -> list[Series]:
    return [
        gauge(
            "topics_sse_connections",
            "Open streams and sockets of this process.",
            connections.count(),
        ),
        gauge("topics_ready", "1 if requests can be served.", int(_is_ready(found))),
        gauge("topics_recovery_progress", "How far recovery is, 0 to 1.", int(found is not None)),
        counter("topics_uptime_ms", "Age of this process.", lifespan.uptime_ms()),
    ]


def _of_writer(wal: Commits) -> list[Series]:
    return [
        counter("topics_wal_frames_total", "Appends written.", wal.frames),
        counter("topics_wal_batches_total", "Group commits.", wal.batches),
        counter("topics_wal_fsyncs_total", "Group commits that waited for the disk.", wal.fsyncs),
        counter("topics_wal_bytes_written_total", "Bytes of records written.", wal.bytes_written),
        counter("topics_wal_rotations_total", "Always 0: Postgres keeps the log.", 0),
        counter(
            "topics_wal_submit_full_total",
            "Appends refused because too much was waiting.",
            wal.submit_full,
        ),
        gauge("topics_wal_queue_depth", "Appends that wait for a group.", wal.queue_depth),
        gauge("topics_wal_queue_depth_peak", "The most that have waited.", wal.queue_depth_peak),
        gauge("topics_wal_read_only", "Always 0: Postgres decides.", 0),
        histogram(
            "topics_wal_fsync_latency_us",
            "Microseconds of the group commits that waited for the disk.",
            bounds=commits.BOUNDS_US,
            buckets=wal.latencies,
            total=wal.fsync_micros,
        ),
    ]


def _by_topic(name: str, meaning: str, rows: list[dict[str, Any]], column: str) -> Series:
    return labelled(name, meaning, "topic", {row["name"]: row[column] for row in rows})
