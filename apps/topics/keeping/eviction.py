"""What retention takes from a topic, and what a crash of Postgres left behind: written down under the topic's lock."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.db import transaction

from apps.core import asyncdb, clock, pgarray, sql

if TYPE_CHECKING:
    from collections.abc import Collection

    from apps.core.asyncdb import Connection

log = logging.getLogger(__name__)

_CHUNK = 256
_CHUNK_MAX = 65_536
# What one transaction looks at when it needn't be all: writers wait for it some ten milliseconds.
_STEP = 16_384
_DUE_AT_ONCE = 100


class Behind(Exception):
    """More may be due from a topic with gaps than one transaction should look at while writers wait."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


def now_ms() -> int:
    """Return the time that records are stamped with and that retention is judged by."""
    return clock.milliseconds(clock.now())


async def lock_settled(
    conn: Connection, names: Collection[str], *, now: int, at_any_price: bool = True
) -> dict[str, dict[str, Any]]:
    """Lock topics until the transaction ends, with retention judged, and return what a write is judged by.

    Those that don't exist are missing in the answer. Raises Behind if that takes long and is not wanted at any price:
    the caller then gives up its transaction, calls `evict_due_async`, and comes again.
    """
    wanted = pgarray.texts([name.encode() for name in sorted(names)])
    rows = (await sql.run_async("topics/lock_topics", on=conn, names=wanted, now=now)).rows
    unsettled = {row["id"]: row["name"] for row in rows if row["unsettled"]}
    if unsettled:
        await skip_lost_seqs_async(conn)
        for topic_id, name in unsettled.items():
            if at_any_price:
                await evict_async(conn, topic_id)
            elif not await _evict_at_once_async(conn, topic_id, _CHUNK):
                raise Behind(name)
        rows = (await sql.run_async("topics/lock_topics", on=conn, names=wanted, now=now)).rows
    return {row["name"]: row for row in rows}


def lock_settled_now(names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Do as `lock_settled` at any price, in the transaction of this thread."""
    wanted = pgarray.texts([name.encode() for name in sorted(names)])
    now = now_ms()
    rows = sql.run_bound("topics/lock_topics", names=wanted, now=now).rows
    unsettled = [row["id"] for row in rows if row["unsettled"]]
    if unsettled:
        skip_lost_seqs()
        for topic_id in unsettled:
            evict(topic_id)
        rows = sql.run_bound("topics/lock_topics", names=wanted, now=now).rows
    return {row["name"]: row for row in rows}


def evict_due(name: str) -> None:
    """Take away what is due from a topic; writers hardly wait, however much it is.

    Records are looked at one by one only if the topic has gaps, and then without its lock as far as possible.
    """
    with transaction.atomic():
        skip_lost_seqs()
        found = sql.run_bound("topics/lock_topic", name=name).rows
        behind = [topic["id"] for topic in found if not _evict_at_once(topic["id"], _CHUNK)]
    for topic_id in behind:
        while _evict_step(topic_id, _CHUNK_MAX, locked=False):
            pass
    more = bool(behind)
    while more:
        more = False
        with transaction.atomic():
            for topic in sql.run_bound("topics/lock_topic", name=name).rows:
                more = _evict_step(topic["id"], _STEP)


async def evict_due_async(name: str) -> None:
    """Do as `evict_due` in the event loop."""
    async with asyncdb.transaction() as conn:
        await skip_lost_seqs_async(conn)
        found = (await sql.run_async("topics/lock_topic", on=conn, name=name)).rows
        behind = [
            topic["id"]
            for topic in found
            if not await _evict_at_once_async(conn, topic["id"], _CHUNK)
        ]
    for topic_id in behind:
        while await _evict_step_async(None, topic_id, _CHUNK_MAX, locked=False):
            pass
    more = bool(behind)
    while more:
        more = False
        async with asyncdb.transaction() as conn:
            for topic in (await sql.run_async("topics/lock_topic", on=conn, name=name)).rows:
                more = await _evict_step_async(conn, topic["id"], _STEP)


async def evict_all_due_async() -> bool:
    """Take away what has expired from any topic, of at most so many; say whether there was something."""
    due = await sql.run_async("topics/list_due_topics", now=now_ms(), limit=_DUE_AT_ONCE)
    for row in due.rows:
        await evict_due_async(row["name"])
    return bool(due.rows)


def evict(topic_id: int, *, chunk: int = _CHUNK) -> None:
    """Take away what is expired or over a cap, in a transaction that holds the topic's lock.

    Looks at `chunk` records first. If all of them had to go it finds the end of what has to; in a topic with gaps, by
    looking at twice as many each time.
    """
    if not _evict_at_once(topic_id, chunk):
        while _evict_step(topic_id, chunk):
            chunk = min(chunk * 2, _CHUNK_MAX)


async def evict_async(conn: Connection, topic_id: int, *, chunk: int = _CHUNK) -> None:
    """Do as `evict` in the event loop."""
    if not await _evict_at_once_async(conn, topic_id, chunk):
        while await _evict_step_async(conn, topic_id, chunk):
            chunk = min(chunk * 2, _CHUNK_MAX)


def _evict_at_once(topic_id: int, chunk: int) -> bool:
    """Say whether all that is due has gone; if not, the topic has gaps."""
    if not _evict_step(topic_id, chunk):
        return True
    return bool(sql.run_bound("topics/evict_prefix", topic_id=topic_id, now=now_ms()).rows)


async def _evict_at_once_async(conn: Connection, topic_id: int, chunk: int) -> bool:
    if not await _evict_step_async(conn, topic_id, chunk):
        return True
    params = {"topic_id": topic_id, "now": now_ms()}
    return bool((await sql.run_async("topics/evict_prefix", on=conn, **params)).rows)


def _evict_step(topic_id: int, chunk: int, *, locked: bool = True) -> bool:
    """Say whether all of the chunk had to go, so that there may be more."""
    params = _step_params(topic_id, chunk, locked=locked)
    found = sql.run_bound("topics/evict_records", **params).rows
    return bool(found and found[0]["more"])


async def _evict_step_async(
    conn: Connection | None, topic_id: int, chunk: int, *, locked: bool = True
) -> bool:
    params = _step_params(topic_id, chunk, locked=locked)
    found = (await sql.run_async("topics/evict_records", on=conn, **params)).rows
    return bool(found and found[0]["more"])


def _step_params(topic_id: int, chunk: int, *, locked: bool) -> dict[str, Any]:
    return {"topic_id": topic_id, "chunk": chunk, "now": now_ms(), "locked": locked}


def skip_lost_seqs() -> None:
    """Move heads past seqs that a crash of Postgres may have lost; nothing unless there was one."""
    _tell(sql.run_bound("topics/skip_lost_seqs"))


async def skip_lost_seqs_async(conn: Connection) -> None:
    """Do as `skip_lost_seqs` in the event loop."""
    _tell(await sql.run_async("topics/skip_lost_seqs", on=conn))


def _tell(skipped: sql.Result) -> None:
    for row in skipped.rows:
        log.warning("topic %s: skipped seqs that a crash may have lost", row["name"])
