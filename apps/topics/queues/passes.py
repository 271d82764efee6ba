"""One pass over a queue: what waits for it is done in one transaction under the queue's lock (topics v0 §18).

Locks: the queue's row first; then, only if jobs are dead-lettered, both topics, as appends take them; and at the end the
queue's own topic, if records go. Rows of jobs are touched by whoever holds the queue's lock and by nobody else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from apps.core import asyncdb, pgarray, sql
from apps.topics.errors import NotAQueue, TopicNotFound
from apps.topics.keeping import eviction, settling
from apps.topics.names import can_be_looked_up
from apps.topics.queues import dead_letters, dealing, verdicts, windows
from apps.topics.queues.orders import Ack, Claim, Claimed, Decided, Depth, Effects, Leased, Verdict
from apps.topics.states import TopicKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from apps.core.asyncdb import Connection
    from apps.topics.queues.orders import Order, Outcome

    Deal = Callable[[Sequence[int], int], list[int]]

# What one pass hands out at most; claimers beyond wait for the next one.
JOBS_PER_PASS = 10_000
BYTES_PER_PASS = 32 * 1024 * 1024
# After a crash of Postgres, lease numbers go on this far above the last one known. What was lost was handed out within
# three times wal_writer_delay: 0.6 s as Postgres is shipped, 30 s at most.
SKIPPED_LEASES = 2**24
_MOST_DELIVERIES = 2**31 - 1


@dataclass(slots=True)
class Counters:
    """What `write_queue` stores."""

    topic_id: int
    claimed: int
    last_lease: int
    leased: int
    delayed: int
    dead_lettered: int
    swept_due: int
    reaped: int
    window_until: int


_COUNTERS = [field.name for field in fields(Counters)]


async def carry_out(name: str, orders: Sequence[Order]) -> tuple[dict[Order, Outcome], Effects]:
    """Carry out orders on a queue in one transaction, verdicts before claims, and return what came of each.

    Orders that are missing in the answer have to come again: this pass was full. Raises TopicNotFound or NotAQueue.
    """
    for settled in (False, True):
        if settled:
            await settling.settle_async(name)
        async with asyncdb.transaction() as conn:
            this = Pass(conn, name, await lock_queue(conn, name))
            if this.row["unsettled"] and not settled:
                continue
            await this.do(orders)
            committing = time.perf_counter()
        break
    this.note_commit((time.perf_counter() - committing) * 1000)
    return this.outcomes, this.effects


async def lock_queue(conn: Connection, name: str) -> dict[str, Any]:
    """Lock a queue until the transaction ends and return its row; raises TopicNotFound or NotAQueue."""
    while True:
        if can_be_looked_up(name):
            found = await sql.run_async(
                "topics/queues/lock_queue", on=conn, name=name, now=eviction.now_ms()
            )
            if found.rows:
                return found.rows[0]
        await open_queue(name, on=conn)


async def open_queue(name: str, *, on: Connection | None = None) -> None:
    """Make sure that a queue has its row; raises TopicNotFound or NotAQueue."""
    kinds = []
    if can_be_looked_up(name):
        kinds = (await sql.run_async("topics/queues/open_queue", on=on, name=name)).rows
    if not kinds:
        raise TopicNotFound.of(name)
    if kinds[0]["kind"] != TopicKind.QUEUE:
        raise NotAQueue.of(name)


class Pass:
    """The state of one transaction."""

    def __init__(self, conn: Connection, name: str, row: dict[str, Any]) -> None:
        self.conn = conn
        self.name = name
        self.row = row
        self.now = eviction.now_ms()
        self.counters = Counters(**{name: row[name] for name in _COUNTERS})
        # Live records of the topic.
        self.count = 0
        # Jobs that are done with; their records go at the end.
        self.finished: list[int] = []
        self.outcomes: dict[Order, Outcome] = {}
        self.effects = Effects()
        self.is_changed = False
        self.waits_for_disk = False

    @property
    def topic_id(self) -> int:
        return self.counters.topic_id

    @property
    def ready(self) -> int:
        return max(self.count - self.counters.leased - self.counters.delayed, 0)

    @property
    def depth(self) -> Depth:
        return Depth(self.ready, self.counters.leased, self.row["is_paused"])

    @property
    def exhausted_at(self) -> int | None:
        """After how many deliveries a job is dead-lettered; None if it is redelivered for ever."""
        if self.row["dead_letter"] is None or not self.row["max_deliveries"]:
            return None
        return min(int(self.row["max_deliveries"]), _MOST_DELIVERIES)

    async def do(self, orders: Sequence[Order]) -> None:
        """Carry out what fits; it is in `outcomes` afterwards."""
        before = replace(self.counters)
        if not self.row["is_intact"]:
            self.counters.last_lease += SKIPPED_LEASES
            await sql.run_async("topics/queues/mark_intact", on=self.conn, topic_id=self.topic_id)
        await self._return_jobs()
        if decisions := [order for order in orders if isinstance(order, Verdict)]:
            await verdicts.decide(self, decisions)
        if claims := [order for order in orders if isinstance(order, Claim)]:
            await self._claim(claims)
        await self._remove_finished()
        await self._write(before)
        # Everybody hears the counters at the end: they acted at the same time.
        depth = self.depth
        for order, outcome in self.outcomes.items():
            if isinstance(outcome, Claimed | Decided):
                self.outcomes[order] = replace(outcome, depth=depth)

    def note_commit(self, elapsed_ms: float) -> None:
        """Tell acks how long the flush took that their queue asks for."""
        if self.row["is_flushed"]:
            for order, outcome in self.outcomes.items():
                if isinstance(order, Ack) and isinstance(outcome, Decided) and outcome.done:
                    self.outcomes[order] = replace(outcome, fsync_ms=elapsed_ms)

    def will_be_due(self, times: Iterable[int]) -> None:
        """Have `return_jobs` look for jobs that come due then, even if clocks disagree about the past."""
        for time_ms in times:
            self.counters.swept_due = min(self.counters.swept_due, time_ms - 1)

    def finish(self, seqs: Sequence[int]) -> None:
        """Have the records of jobs deleted that have no row any more."""
        # Not at once: a dead letter that comes after them may need another topic's lock before this one's.
        self.finished += seqs
        self.count -= len(seqs)

    async def lease(self, claimers: Sequence[Claim], deal: Deal) -> list[list[Leased]]:
        """Lease jobs to claimers, and return what each of them got."""
        given: list[list[Leased]] = [[] for _ in claimers]
        if self.row["is_paused"]:
            return given
        wanted = [claim.most for claim in claimers]
        if self.exhausted_at is not None:
            await dead_letters.bury(self, min(sum(wanted), JOBS_PER_PASS), self.exhausted_at)
        slots = deal(wanted, min(self.ready, JOBS_PER_PASS))
        if not slots:
            return given
        served = claimers[: max(slots)]
        rows = (
            await sql.run_async(
                "topics/queues/claim_jobs",
                on=self.conn,
                topic_id=self.topic_id,
                claimed=self.counters.claimed,
                last_lease=self.counters.last_lease,
                exhausted_at=self.exhausted_at,
                budget=BYTES_PER_PASS,
                slots=pgarray.ints(slots),
                nodes=pgarray.texts([claim.node for claim in served]),
                dues=pgarray.bigints([self.now + self.lease_ms(claim) + 1 for claim in served]),
                pushed=pgarray.smallints([int(claim.is_pushed) for claim in served]),
            )
        ).rows
        for row in rows:
            given[row["claimer"] - 1].append(Leased.of(row))
        if rows:
            self.counters.claimed = max(self.counters.claimed, rows[-1]["seq"])
            self.counters.last_lease += len(rows)
            self.counters.leased += len(rows)
            self.will_be_due(row["due"] for row in rows)
            self.waits_for_disk |= self.row["leases_durable"]
        return given

    def lease_ms(self, claim: Claim) -> int:
        """Return how long a claim's leases last (★38: each claimer's own, in a window too)."""
        return int(self.row["lease_ms"] if claim.lease_ms is None else claim.lease_ms)

    async def _claim(self, claims: Sequence[Claim]) -> None:
        new = [claim for claim in claims if claim.ticket is None]
        if waiting := [claim for claim in claims if claim.ticket is not None]:
            await windows.end(self, waiting)
        if new and self.row["claim_jitter_ms"] and not self.row["is_paused"]:
            await windows.file(self, new)
        elif new:
            given = await self.lease(new, dealing.in_turn)
            was_full = sum(map(len, given)) > 0 and self.ready > 0
            for claim, jobs in zip(new, given, strict=True):
                if jobs or not was_full:
                    self.outcomes[claim] = Claimed(jobs, self.depth)

    async def _return_jobs(self) -> None:
        """Give back what is no longer leased or delayed, and learn the topic's marks."""
        found = await sql.run_async(
            "topics/queues/return_jobs",
            on=self.conn,
            topic_id=self.topic_id,
            swept_due=self.counters.swept_due,
            reaped=self.counters.reaped,
            now=self.now,
        )
        if not found.rows:
            raise TopicNotFound.of(self.name)
        topic = found.rows[0]
        self.count = topic["count"]
        self.counters.leased -= topic["leases_over"]
        self.counters.delayed -= topic["delays_over"]
        self.counters.swept_due = max(self.counters.swept_due, self.now)
        self.counters.reaped = max(self.counters.reaped, topic["earliest"])

    async def _remove_finished(self) -> None:
        """Delete the records of finished jobs; silently (§8.5)."""
        if not self.finished:
            return
        on, topic_id = self.conn, self.topic_id
        # Its id may have changed: the topic was deleted, and perhaps made again, since the queue was locked.
        locked = (await sql.run_async("topics/lock_topic", on=on, name=self.name)).rows
        if not locked or locked[0]["id"] != topic_id:
            raise TopicNotFound.of(self.name)
        gone = await sql.run_async(
            "topics/delete_seqs", on=on, topic_id=topic_id, seqs=pgarray.bigints(self.finished)
        )
        # From the first seq on: which of them is the oldest now is for the topic to say.
        left = await sql.run_async(
            "topics/take_away", on=on, topic_id=topic_id, first=0, **gone.rows[0]
        )
        self.count = left.rows[0]["count"]

    async def _write(self, before: Counters) -> None:
        # How far the scans came is not worth a write of its own.
        idle = replace(self.counters, swept_due=before.swept_due, reaped=before.reaped)
        if idle != before or self.is_changed:
            values = {name: getattr(self.counters, name) for name in _COUNTERS}
            relaxed = not self.waits_for_disk
            await sql.run_async(
                "topics/queues/write_queue", on=self.conn, relaxed=relaxed, **values
            )
