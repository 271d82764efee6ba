"""Bringing a topic up to date before it is used: the retention pass, and what a crash of Postgres left behind.

Retention is judged when a topic is read or written, never by a clock of its own. What it takes away is written down
before anybody is told, so that a lost record can't come back when clocks or configs change (topics v0 §8.1).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import transaction

from apps.core import asyncdb, clock, sql

if TYPE_CHECKING:
    from apps.core.asyncdb import Connection

log = logging.getLogger(__name__)

_CHUNK = 256
_CHUNK_MAX = 65_536


def now_ms() -> int:
    """Return the time that records are stamped with and that retention is judged by."""
    return clock.milliseconds(clock.now())


def settle(name: str) -> None:
    """Write down what retention takes from a topic now."""
    with transaction.atomic():
        skip_lost_seqs()
        for topic in sql.run_bound("topics/lock_topic", name=name).rows:
            evict(topic["id"])


async def settle_async(name: str) -> None:
    """Do as `settle` in the event loop."""
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
