"""Whether this process can serve the log (topics v0 §20)."""

from __future__ import annotations

import asyncio

import psycopg

from apps.core import asyncdb, lifespan, sql
from apps.topics.errors import NotReady, ShuttingDown
from apps.topics.keeping import eviction

# A probe that is answered later than that is of no use to whoever asks.
_PATIENCE_SECONDS = 2.0


async def topics_when_ready() -> int:
    """Return how many topics there are; raises NotReady, or ShuttingDown while open requests are ended."""
    if lifespan.is_draining():
        raise ShuttingDown
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await _topics()
    except TimeoutError as exc:
        raise NotReady("the database does not answer", replay_progress=0.0) from exc
    except psycopg.Error as exc:
        raise NotReady("the database is not available", replay_progress=0.0) from exc


async def _topics() -> int:
    [row] = (await sql.run_async("topics/check_ready")).rows
    if row["recovering"]:
        raise NotReady("the database is a standby, or still recovering", replay_progress=0.0)
    if not row["intact"]:
        # What a crash of Postgres leaves to do before anything is read or written (Appendix B.12).
        async with asyncdb.transaction() as conn:
            await eviction.skip_lost_seqs_async(conn)
    return int(row["topics"])
