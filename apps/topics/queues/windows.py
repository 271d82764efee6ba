"""The coalescing window: claims that arrive while it is open are served together, fairly (topics v0 §18.3).

The window is on the queue's row and its claimers are rows, so that those of all web processes share it. Whoever comes
first after its end serves everybody; the others fetch what they were given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core import pgarray, sql
from apps.topics.queues import dealing
from apps.topics.queues.orders import Claim, Claimed, Filed, Leased

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.topics.queues.passes import Pass

# A claim that waits for so long has lost its process: a window lasts 5 s at most. Until then it may be dealt jobs, which
# come back when their leases end.
STALE_MS = 10_000


async def file(this: Pass, claims: Sequence[Claim]) -> None:
    """Have claims wait for the end of the open window, or open one."""
    found = await sql.run_async(
        "topics/queues/file_claims",
        on=this.conn,
        topic_id=this.topic_id,
        now=this.now,
        nodes=pgarray.texts([claim.node for claim in claims]),
        mosts=pgarray.ints([claim.most for claim in claims]),
        leases_ms=pgarray.bigints([this.lease_ms(claim) for claim in claims]),
        pushed=pgarray.smallints([int(claim.is_pushed) for claim in claims]),
    )
    jitter = this.row["claim_jitter_ms"]
    if not this.counters.window_until:
        this.counters.window_until = this.now + jitter
    # Whatever the clocks say, nobody waits longer than a window lasts.
    wait = min(max(this.counters.window_until - this.now, 0), jitter)
    tickets = sorted(row["id"] for row in found.rows)
    for claim, ticket in zip(claims, tickets, strict=True):
        this.outcomes[claim] = Filed(ticket, wait)


async def end(this: Pass, claims: Sequence[Claim]) -> None:
    """Give claims whose window is over what they got; serve everybody in it if nobody has."""
    mine = {claim.ticket: claim for claim in claims}
    found = await sql.run_async(
        "topics/queues/take_claims",
        on=this.conn,
        tickets=pgarray.bigints([claim.ticket for claim in claims if claim.ticket is not None]),
    )
    # A ticket that is missing went with a crash of Postgres, and so did what it may have got.
    for claim in claims:
        this.outcomes[claim] = Claimed([], this.depth)
    for row in found.rows:
        if row["seqs"]:
            jobs = await _read(this, row["seqs"], row["leases"])
            this.outcomes[mine[row["id"]]] = Claimed(jobs, this.depth)
    # Who only leaves does not end the window for the others.
    open_here = [
        row for row in found.rows if row["seqs"] is None and not mine[row["id"]].is_withdrawn
    ]
    if open_here:
        await _serve(this, open_here, mine)


async def _serve(
    this: Pass, open_here: list[dict[str, Any]], mine: dict[int | None, Claim]
) -> None:
    others = await sql.run_async(
        "topics/queues/open_claims",
        on=this.conn,
        topic_id=this.topic_id,
        stale_ts=this.now - STALE_MS,
    )
    here = {row["id"] for row in open_here}
    waiting = sorted([*open_here, *others.rows], key=lambda row: int(row["id"]))
    claimers = [
        Claim(row["node"].encode(), row["most"], row["lease_ms"], is_pushed=row["is_pushed"])
        for row in waiting
    ]
    given = await this.lease(claimers, dealing.round_robin)
    this.counters.window_until = 0
    elsewhere: list[tuple[int, Leased]] = []
    for row, jobs in zip(waiting, given, strict=True):
        if row["id"] in here:
            this.outcomes[mine[row["id"]]] = Claimed(jobs, this.depth)
        else:
            elsewhere += [(row["id"], job) for job in jobs]
    if others.rows:
        await sql.run_async(
            "topics/queues/answer_claims",
            on=this.conn,
            tickets=pgarray.bigints([row["id"] for row in others.rows]),
            owners=pgarray.bigints([ticket for ticket, _ in elsewhere]),
            seqs=pgarray.bigints([job.seq for _, job in elsewhere]),
            leases=pgarray.bigints([job.lease for _, job in elsewhere]),
        )


async def _read(this: Pass, seqs: list[int], leases: list[int]) -> list[Leased]:
    found = await sql.run_async(
        "topics/queues/read_leased",
        on=this.conn,
        topic_id=this.topic_id,
        seqs=pgarray.bigints(seqs),
        leases=pgarray.bigints(leases),
    )
    return [Leased.of(row) for row in found.rows]
