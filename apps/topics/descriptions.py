"""What topics are: config, marks and counters, each from one statement, with their retention done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core import pgarray, sql
from apps.topics import config
from apps.topics.errors import TopicNotFound
from apps.topics.keeping import eviction, settling
from apps.topics.names import can_be_looked_up
from apps.topics.states import Durability

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is shown: its config by column, its marks and counters."""

    topic_id: int
    name: str
    kind: str
    config: dict[str, Any]
    head: int
    earliest: int
    count: int
    bytes: int
    last_write_ts: int | None
    last_read_ts: int | None
    last_consumed_ts: int | None


@dataclass(frozen=True, slots=True)
class TopicRow:
    """A topic as a list shows it."""

    topic_id: int
    name: str
    head: int
    earliest: int
    count: int
    bytes: int
    durability: str
    priority: int | None
    auto_priority: bool
    last_consumed_ts: int | None

    @property
    def durable(self) -> bool:
        return self.durability == Durability.FSYNC


async def get_topic_state(topic: str) -> TopicState:
    """Return a topic with its retention done; raises TopicNotFound."""
    rows: list[dict[str, Any]] = []
    if can_be_looked_up(topic):
        rows = await _read_topic(topic)
        if rows and rows[0]["unsettled"]:
            await settling.settle_async(topic)
            rows = await _read_topic(topic)
    if not rows:
        raise TopicNotFound.of(topic)
    [row] = rows
    return TopicState(
        topic_id=row["id"],
        name=row["name"],
        kind=row["kind"],
        config={name: row[name] for name in config.COLUMNS},
        head=row["head"],
        earliest=row["earliest"],
        count=row["count"],
        bytes=row["bytes"],
        last_write_ts=row["last_write_ts"],
        last_read_ts=row["last_read_ts"],
        last_consumed_ts=row["last_consumed_ts"],
    )


async def list_topics(
    ranges: Sequence[tuple[str, str]], *, after: str, limit: int
) -> list[TopicRow]:
    """Return topics by name, within ranges [low, high) of names that don't overlap, with their retention done."""
    rows = await _list(ranges, after, limit)
    unsettled = [row["name"] for row in rows if row["unsettled"]]
    if unsettled:
        for name in unsettled:
            await settling.settle_async(name)
        rows = await _list(ranges, after, limit)
    return [_topic_row(row) for row in rows]


async def exists(topic: str) -> bool:
    """Say whether there is such a topic."""
    return can_be_looked_up(topic) and bool(
        (await sql.run_async("topics/find_topic", name=topic)).rows
    )


async def _read_topic(topic: str) -> list[dict[str, Any]]:
    found = await sql.run_async("topics/read_topic", name=topic, now=eviction.now_ms())
    return found.rows


async def _list(ranges: Sequence[tuple[str, str]], after: str, limit: int) -> list[dict[str, Any]]:
    found = await sql.run_async(
        "topics/list_topics",
        lows=pgarray.texts([low.encode() for low, _ in ranges]),
        highs=pgarray.texts([high.encode() for _, high in ranges]),
        after=after,
        limit=limit,
        now=eviction.now_ms(),
    )
    return found.rows


def _topic_row(row: dict[str, Any]) -> TopicRow:
    return TopicRow(
        topic_id=row["id"],
        name=row["name"],
        head=row["head"],
        earliest=row["earliest"],
        count=row["count"],
        bytes=row["bytes"],
        durability=row["durability"],
        priority=row["priority"],
        auto_priority=row["auto_priority"],
        last_consumed_ts=row["last_consumed_ts"],
    )
