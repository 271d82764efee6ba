"""Jobs that were delivered too often: their move to the dead-letter topic (topics v0 §18.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core import pgarray, sql
from apps.topics.appending import admission, batch
from apps.topics.appending.admission import Append
from apps.topics.appending.batch import Record
from apps.topics.queues import stamps

if TYPE_CHECKING:
    from apps.topics.queues.passes import Pass

# How many jobs one step moves beside those it looks past, how many payload bytes, and how many steps one pass makes.
# What is left is found by the next claim.
_JOBS_PER_STEP = 1_000
_BYTES_PER_STEP = 16 * 1024 * 1024
_STEPS_PER_PASS = 10


async def bury(this: Pass, wanted: int, exhausted_at: int) -> None:
    """Move the exhausted jobs that a claim of `wanted` jobs comes across; what the destination refuses stays (★40)."""
    for _ in range(_STEPS_PER_PASS):
        found = await sql.run_async(
            "topics/queues/exhausted_jobs",
            on=this.conn,
            topic_id=this.topic_id,
            exhausted_at=exhausted_at,
            wanted=wanted,
            chunk=wanted + _JOBS_PER_STEP,
            budget=_BYTES_PER_STEP,
        )
        if not found.rows:
            return
        moved, refused = await _move(this, found.rows)
        # Of several letters to a topic that was not there, the first creates it and the others come again.
        if refused or (moved == len(found.rows) and not found.rows[0]["more"]):
            return


async def _move(this: Pass, rows: list[dict[str, Any]]) -> tuple[int, int]:
    letters = {_letter(this, row): row["seq"] for row in rows}
    trial = admission.Trial(list(letters), beside=[this.name])
    await trial.carry_out(this.conn, relaxed=False)
    seqs = [letters[append] for append in trial.accepted]
    if not seqs:
        return 0, len(trial.refused)
    await sql.run_async(
        "topics/queues/write_jobs",
        on=this.conn,
        topic_id=this.topic_id,
        forgotten=pgarray.bigints(seqs),
        seqs=pgarray.bigints([]),
        states=pgarray.smallints([]),
        dues=pgarray.bigints([]),
    )
    this.finish(seqs)
    this.counters.dead_lettered += len(seqs)
    this.waits_for_disk = True
    for placed in trial.placed.values():
        this.effects.appended.add(placed.name)
        if placed.has_listeners:
            this.effects.listened_to.add(placed.name)
    return len(seqs), len(trial.refused)


def _letter(this: Pass, row: dict[str, Any]) -> Append:
    # ⚑39: the setting, whatever the count.
    deliveries = int(this.row["max_deliveries"])
    meta = stamps.add(row["meta"], queue=this.name, deliveries=deliveries, seq=row["seq"])
    data = row["data"].encode()
    record = Record(
        data=data,
        meta=meta,
        size=batch.compact_length(data) + batch.compact_length(meta),
        tag=None if row["tag"] is None else row["tag"].encode(),
        node=None if row["node"] is None else row["node"].encode(),
    )
    return Append(topic=this.row["dead_letter"], records=[record], size=record.size)
