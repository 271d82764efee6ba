"""Acks, nacks and extensions inside a pass (topics v0 §18.2, 18.4–18.6)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.core import pgarray, sql
from apps.topics.queries import MAX_SEQ
from apps.topics.queues.orders import Ack, Decided, Extend, Nack
from apps.topics.states import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.topics.queues.orders import Verdict
    from apps.topics.queues.passes import Pass


@dataclass(slots=True)
class _Changes:
    """What the verdicts of a pass do to its jobs."""

    now: int
    ended: set[int] = field(default_factory=set)
    forgotten: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    written: dict[int, tuple[JobState, int]] = field(default_factory=dict)
    leases_over: int = 0
    delays_begun: int = 0
    is_news: bool = False

    def apply(self, verdict: Verdict, job: dict[str, Any]) -> None:
        """Note what a verdict does to a job that is its to decide about."""
        seq, is_live = job["seq"], job["state"] == JobState.LEASED
        if isinstance(verdict, Extend):
            self.written[seq] = (job["state"], self.now + verdict.lease_ms + 1)
            return
        self.ended.add(seq)
        self.written.pop(seq, None)
        self.leases_over += is_live
        self.is_news = self.is_news or job["is_pushed"]
        if isinstance(verdict, Nack) and is_live:
            if verdict.delay_ms:
                self.written[seq] = (JobState.DELAYED, self.now + verdict.delay_ms)
                self.delays_begun += 1
            else:
                self.written[seq] = (JobState.RETURNED, 0)
                self.is_news = True
            return
        self.forgotten.append(seq)
        if is_live:
            self.removed.append(seq)


async def decide(this: Pass, verdicts: Sequence[Verdict]) -> None:
    """Carry out verdicts as if one came after the other, each job by the first that ends its lease."""
    changes = _Changes(this.now)
    held = await _held(this, verdicts)
    for number, verdict in enumerate(verdicts):
        done: list[int] = []
        skipped: list[int] = []
        acted: set[int] = set()
        for place, seq in enumerate(verdict.seqs):
            job = held[number].get(place)
            if job is None or seq in acted or seq in changes.ended:
                skipped.append(seq)
                continue
            acted.add(seq)
            done.append(seq)
            changes.apply(verdict, job)
        deadline = this.now + verdict.lease_ms if isinstance(verdict, Extend) else 0
        this.outcomes[verdict] = Decided(done, skipped, this.depth, deadline)
        if done:
            this.is_changed = True
            is_flushed = isinstance(verdict, Ack) and this.row["is_flushed"]
            this.waits_for_disk |= is_flushed or this.row["leases_durable"]
    if this.is_changed:
        await _write(this, changes)


async def _held(this: Pass, verdicts: Sequence[Verdict]) -> dict[int, dict[int, dict[str, Any]]]:
    """Return the jobs that each verdict may decide about: by its number, then by their place in it."""
    found: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    owners = [(number, place) for number, v in enumerate(verdicts) for place in range(len(v.seqs))]
    if not owners:
        return found
    found_rows = await sql.run_async(
        "topics/queues/held_leases",
        on=this.conn,
        topic_id=this.topic_id,
        now=this.now,
        # Cursors are unsigned 64-bit on the wire; what is beyond bigint was never handed out.
        seqs=pgarray.bigints([s if s <= MAX_SEQ else -1 for v in verdicts for s in v.seqs]),
        nodes=pgarray.texts([v.node for v in verdicts for _ in v.seqs]),
        leases=pgarray.bigints([lease for v in verdicts for lease in v.leases]),
    )
    for row in found_rows.rows:
        number, place = owners[row["place"] - 1]
        found[number][place] = row
    return found


async def _write(this: Pass, changes: _Changes) -> None:
    states = [state for state, _ in changes.written.values()]
    dues = [due for _, due in changes.written.values()]
    await sql.run_async(
        "topics/queues/write_jobs",
        on=this.conn,
        topic_id=this.topic_id,
        forgotten=pgarray.bigints(changes.forgotten),
        seqs=pgarray.bigints(list(changes.written)),
        states=pgarray.smallints(states),
        dues=pgarray.bigints(dues),
    )
    this.counters.leased -= changes.leases_over
    this.counters.delayed += changes.delays_begun
    this.will_be_due(due for due in dues if due)
    this.effects.is_news |= changes.is_news
    this.finish(changes.removed)
