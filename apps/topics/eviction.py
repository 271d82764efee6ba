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


def now_ms() -> int:
    """Return the time that records are stamped with and that retention is judged by."""
    return clock.milliseconds(clock.now())


async def lock_settled(
    conn: Connection, names: Collection[str], *, now: int
) -> dict[str, dict[str, Any]]:
    """Lock topics until the transaction ends, with retention judged, and return what a write is judged by.

    Those that don't exist are missing in the answer.
    """
    wanted = pgarray.texts([name.encode() for name in sorted(names)])
    rows = (await sql.run_async("topics/lock_topics", on=conn, names=wanted, now=now)).rows
    unsettled = [row["id"] for row in rows if row["unsettled"]]
    if unsettled:
        await skip_lost_seqs_async(conn)
        for topic_id in unsettled:
            await evict_async(conn, topic_id)
        rows = (await sql.run_async("topics/lock_topics", on=conn, names=wanted, now=now)).rows
    return {row["name"]: row for row in rows}


def evict_due(name: str) -> None:
    """Take away what is due from a topic, in a transaction of its own."""
    with transaction.atomic():
        skip_lost_seqs()
        for topic in sql.run_bound("topics/lock_topic", name=name).rows:
            evict(topic["id"])


async def evict_due_async(name: str) -> None:
    """Do as `evict_due` in the event loop."""
    async with asyncdb.transaction() as conn:
        await skip_lost_seqs_async(conn)
        for topic in (await sql.run_async("topics/lock_topic", on=conn, name=name)).rows:
            await evict_async(conn, topic["id"])


def evict(topic_id: int, *, chunk: int = _CHUNK) -> None:
    """Take away what is expired or over a cap, in a transaction that holds the topic's lock.

    Looks at `chunk` records first, and at twice as many each time all of them had to go.
    """
    more = True
    while more:
        rows = sql.run_bound(
            "topics/evict_records", topic_id=topic_id, chunk=chunk, now=now_ms()
        ).rows
        more = bool(rows and rows[0]["more"])
        chunk = min(chunk * 2, _CHUNK_MAX)


async def evict_async(conn: Connection, topic_id: int, *, chunk: int = _CHUNK) -> None:
    """Do as `evict` in the event loop."""
    more = True
    while more:
        found = await sql.run_async(
            "topics/evict_records", on=conn, topic_id=topic_id, chunk=chunk, now=now_ms()
        )
        more = bool(found.rows and found.rows[0]["more"])
        chunk = min(chunk * 2, _CHUNK_MAX)


def skip_lost_seqs() -> None:
    """Move heads past seqs that a crash of Postgres may have lost; nothing unless there was one."""
    _tell(sql.run_bound("topics/skip_lost_seqs"))


async def skip_lost_seqs_async(conn: Connection) -> None:
    """Do as `skip_lost_seqs` in the event loop."""
    _tell(await sql.run_async("topics/skip_lost_seqs", on=conn))


def _tell(skipped: sql.Result) -> None:
    for row in skipped.rows:
        log.warning("topic %s: skipped seqs that a crash may have lost", row["name"])
