"""Jobs that were delivered too often: their move to the dead-letter topic, and back (topics v0 §18.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from apps.core import pgarray, sql
from apps.topics import admission, batch
from apps.topics.admission import Append
from apps.topics.batch import Record

if TYPE_CHECKING:
    from apps.topics.queues.passes import Pass

# The members that tell where a dead letter comes from; all values are strings.
FROM, DELIVERIES, SRC_SEQ = (
    "$dead_letter_from",
    "$dead_letter_deliveries",
    "$dead_letter_src_seq",
)
STAMPS = frozenset({FROM, DELIVERIES, SRC_SEQ})

# How many jobs one step moves beside those it looks past, how many payload bytes, and how many steps one pass makes.
# What is left is found by the next claim.
_JOBS_PER_STEP = 1_000
_BYTES_PER_STEP = 16 * 1024 * 1024
_STEPS_PER_PASS = 10

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    await this.remove_records(seqs)
    this.counters.dead_lettered += len(seqs)
    this.waits_for_disk = True
    for placed in trial.placed.values():
        this.effects.appended.add(placed.name)
        if placed.has_listeners:
            this.effects.listened_to.add(placed.name)
    return len(seqs), len(trial.refused)


def _letter(this: Pass, row: dict[str, Any]) -> Append:
    stamps = {
        FROM: this.name,
        # ⚑39: the setting, whatever the count.
        DELIVERIES: str(int(this.row["max_deliveries"])),
        SRC_SEQ: str(row["seq"]),
    }
    meta = stamped(row["meta"], stamps)
    data = row["data"].encode()
    record = Record(
        data=data,
        meta=meta,
        size=batch.compact_length(data) + batch.compact_length(meta),
        tag=None if row["tag"] is None else row["tag"].encode(),
        node=None if row["node"] is None else row["node"].encode(),
    )
    return Append(topic=this.row["dead_letter"], records=[record], size=record.size)


def stamped(meta: str | None, stamps: dict[str, str]) -> bytes:
    """Add members to a record's meta, whose own keep their spelling; what is no object is replaced."""
    members: dict[str, Any] = {}
    if meta is not None and meta.lstrip().startswith("{"):
        members.update(_members.decode(meta))
    return msgspec.json.encode(members | stamps)


def unstamped(meta: str | None) -> tuple[dict[str, str], bytes | None]:
    """Return the stamps of a dead letter, and its meta without them: None if nothing else was in it."""
    if meta is None or not meta.lstrip().startswith("{"):
        return {}, None if meta is None else meta.encode()
    members = _members.decode(meta)
    stamps = {}
    for name in STAMPS & members.keys():
        stamps[name] = bytes(members.pop(name)).decode().strip('"')
    return stamps, msgspec.json.encode(members) if members else None
