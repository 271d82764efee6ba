"""Who was read when: gathered in memory and written down every second, because a read must not cost a write.

topics v0 §8, Appendix B.4. What a process that dies had gathered is lost: a hint, no more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import psycopg

from apps.core import lifespan, pgarray, sql
from apps.topics.keeping import eviction

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0

# By topic id. Kept after they are stored, since a busy topic's turn to be stored may not have come.
_reads: dict[int, int] = {}
_consumptions: dict[int, int] = {}
_MOST = 100_000
_unwritten: set[int] = set()
_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()


def read(topic_id: int) -> None:
    """Note that a topic was read: its `last_read_ts` and its priority clock are now."""
    if len(_reads) > _MOST:
        _reads.clear()
    _reads[topic_id] = eviction.now_ms()
    consumed([topic_id])


def consumed(topic_ids: Iterable[int]) -> None:
    """Note that the priority clock of topics is now."""
    if len(_consumptions) > _MOST:
        _consumptions.clear()
    now = eviction.now_ms()
    for topic_id in topic_ids:
        _consumptions[topic_id] = now
        _unwritten.add(topic_id)
    _write_soon()


def last_read(topic_id: int, stored: int | None) -> int | None:
    """Return when a topic was last read, as far as this process knows."""
    return _latest(_reads.get(topic_id), stored)


def last_consumed(topic_id: int, stored: int | None) -> int | None:
    """Return the priority clock of a topic, as far as this process knows."""
    return _latest(_consumptions.get(topic_id), stored)


async def write_down() -> None:
    """Store what was noted since the last time."""
    ids = sorted(_unwritten)
    if not ids:
        return
    _unwritten.clear()
    await sql.run_async(
        "topics/write_touches",
        ids=pgarray.bigints(ids),
        reads=pgarray.bigints([_reads.get(topic_id, 0) for topic_id in ids]),
        consumptions=pgarray.bigints([_consumptions.get(topic_id, 0) for topic_id in ids]),
    )


def _latest(*times: int | None) -> int | None:
    return max((time for time in times if time is not None), default=None)


def _write_soon() -> None:
    loop = asyncio.get_running_loop()
    writer = _writers.get(loop)
    if writer is None or writer.done():
        _writers[loop] = loop.create_task(_write_later(), name="touches")
        lifespan.on_close(close)


async def _write_later() -> None:
    await asyncio.sleep(_EVERY_SECONDS)
    await _try_to_write()


async def _try_to_write() -> None:
    try:
        await write_down()
    except psycopg.Error as exc:
        log.warning("when topics were read could not be stored: %s", exc)


async def close() -> None:
    """Store what is left, and stop."""
    writer = _writers.pop(asyncio.get_running_loop(), None)
    if writer is not None:
        writer.cancel()
        await _try_to_write()
