"""Copying: the records of a source into a destination, and the router's position past them, in one transaction.

So a copy is made once, whoever forwards and wherever it is killed. A router's row lock is the turn to forward; under it
one topic is locked, the destination. Two routers of a cycle therefore never wait for each other.
"""

from __future__ import annotations

import logging
from itertools import starmap
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.core import asyncdb, sql
from apps.core.sse import wakeups
from apps.core.steps import carry_out_on
from apps.topics.appending import batch, listeners, quota
from apps.topics.appending.room import Room
from apps.topics.keeping import eviction
from apps.topics.keeping.retention import Marks, gap_before
from apps.topics.names import channel
from apps.topics.routers.copies import Original, Route, copy_of
from apps.topics.states import Guarantee

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apps.core.asyncdb import Connection
    from apps.topics.appending.batch import Record
    from apps.topics.keeping.retention import Gap

log = logging.getLogger(__name__)

# One pass (topics v0 §4.1): so many records of the source, and so many bytes of them, but at least one record.
PASS_RECORDS = 1024
PASS_BYTES = 4 * 1024 * 1024


async def catch_up(dest: str) -> None:
    """Copy what routers owe a topic: all that their source has now (§16.4).

    Copies that a full topic has no room for stay owed.
    """
    for owed in (await sql.run_async("topics/routers/find_owed", name=dest)).rows:
        await forward(owed["router_id"], until=owed["head"])


async def due_from(source: str) -> list[tuple[int, int]]:
    """Return the routers that have something of a topic to copy, and up to which seq."""
    found = await sql.run_async("topics/routers/find_due", name=source)
    return [(row["router_id"], row["head"]) for row in found.rows]


async def forward(router_id: int, *, until: int) -> None:
    """Bring a router to this seq of its source, unless its destination is full or it has been deleted."""
    now = eviction.now_ms()
    while True:
        one = _Pass(router_id, until, now)
        try:
            async with asyncdb.transaction() as conn:
                is_done = await one.run(conn)
        except eviction.Behind as behind:
            # Not under the router's turn: that would take a second topic's lock. Then again by the same clock, or a
            # source that expires record by record would always be due.
            await eviction.evict_due_async(behind.topic)
            continue
        one.tell()
        if is_done:
            return
        now = eviction.now_ms()


class _Pass:
    """One transaction of one router."""

    def __init__(self, router_id: int, until: int, now: int) -> None:
        self.router_id = router_id
        self.until = until
        self.now = now
        self.grown: dict[str, bool] = {}

    async def run(self, conn: Connection) -> bool:
        """Copy the next records, or tell the destination of the next that are lost; say whether that is all for now.

        Raises Behind for a topic whose retention has to be written down first.
        """
        rows = await _run(
            conn,
            "topics/routers/read_source",
            router_id=self.router_id,
            limit=PASS_RECORDS,
            budget=PASS_BYTES,
            now=self.now,
        )
        if not rows:
            return True
        self.row = row = rows[0]
        self.route = _route(row)
        position: int = row["position"]
        if position >= self.until:
            return True
        if row["is_stale"]:
            raise eviction.Behind(self.route.source)
        if position >= row["head"]:
            # The turn was waited for, and the snapshot is older than it. The next one isn't.
            return False
        gap = gap_before(position, _marks(row), row["gap_end"])
        if gap is not None:
            return await self._tell_of_loss(conn, gap)
        return await self._copy(conn)

    def tell(self) -> None:
        """Wake who waits for the destination, once what this pass did is committed."""
        if self.grown:
            wakeups.announce_soon(*map(channel, self.grown))
            listeners.wake([topic for topic, has_listeners in self.grown.items() if has_listeners])

    async def _tell_of_loss(self, conn: Connection, gap: Gap) -> bool:
        """Pass a loss on, but not round a circle again: whoever lost the records has told its readers itself (§16.6)."""
        after, is_own = self.row["position"], gap.reason != "source_trim"
        # What the source was told of lies behind what it lost itself: the next pass deals with it.
        until = max(self.row["cap_floor"], self.row["ttl_floor"]) if is_own else gap.gap_to
        [way] = await _run(
            conn,
            "topics/routers/find_way_of_loss",
            source_id=self.row["source_id"],
            dest_id=self.row["dest_id"],
            after=after,
            until=until,
        )
        seqs = until - after
        if way["steps"] is not None and way["hops"] >= way["steps"]:
            seqs = seqs - way["told"] if is_own else 0
        if not seqs:
            return await self._advance(conn, until, 0)
        await self._lose(conn, seqs)
        return await self._advance(conn, until, seqs, lost_hops=1 if is_own else way["hops"] + 1)

    async def _copy(self, conn: Connection) -> bool:
        # Behind the last record there may be deleted ones, which an empty page passes over.
        position = self.row["read_to"] or self.row["until"]
        copies = [
            (original.seq, copy)
            for original in _originals(self.row)
            if (copy := copy_of(original, self.route)) is not None
        ]
        if self.row["dest_has_cap"] or settings.GYOZA_MAX_TOTAL_BYTES:
            return await self._copy_judged(conn, copies, position)
        # The destination is locked last, for as long as the statement and the commit take.
        is_done = await self._advance(conn, position, len(copies))
        if copies and not await self._append(conn, [copy for _, copy in copies], roomy_only=True):
            # It has a cap by now, or Postgres has come back from a crash. Nothing is dealt with yet.
            await self._advance(conn, self.row["position"], 0)
            return await self._copy_judged(conn, copies, position)
        return is_done

    async def _copy_judged(
        self, conn: Connection, copies: list[tuple[int, Record]], position: int
    ) -> bool:
        """Copy as many as there is room for, and stop before the first that there is none for (§16.4)."""
        if not copies:
            return await self._advance(conn, position, 0)
        bytes_left = await carry_out_on(conn, quota.take_turn())
        dest = self.row["dest"]
        [topic] = (
            await eviction.lock_settled(conn, [dest], now=self.now, at_any_price=False)
        ).values()
        room, fitting = Room.of(topic), 0
        for _, copy in copies:
            if room.is_full_for(1, copy.size) or (
                bytes_left is not None and copy.size > bytes_left
            ):
                break
            room.take(1, copy.size)
            bytes_left = None if bytes_left is None else bytes_left - copy.size
            fitting += 1
        if fitting == 0:
            return await self._refused(conn, room, copies[0])
        if fitting < len(copies):
            # The records before the one that doesn't fit are dealt with; the next pass sees whether it ever will.
            position = copies[fitting][0] - 1
        await self._append(conn, [copy for _, copy in copies[:fitting]], roomy_only=False)
        if self.row["dest_has_cap"]:
            await eviction.evict_async(conn, topic["id"], chunk=2 * fitting)
        return await self._advance(conn, position, fitting)

    async def _refused(self, conn: Connection, room: Room, first: tuple[int, Record]) -> bool:
        seq, copy = first
        if not room.can_never_take(1, copy.size):
            return True
        # It would stop the router for ever. Whoever reads the destination is told (§1: loss is announced).
        log.warning("%s: %s can never hold record %d", self.route.router, self.row["dest"], seq)
        await self._lose(conn, 1)
        return await self._advance(conn, seq, 1, lost_hops=1)

    async def _append(
        self, conn: Connection, copies: Sequence[Record], *, roomy_only: bool
    ) -> bool:
        params = batch.append_params(
            {self.row["dest"]: copies}, now=self.now, roomy_only=roomy_only, relaxed=True
        )
        placed = batch.placed(await _run(conn, "topics/append_records", **params))
        self.grown.update((topic.name, topic.has_listeners) for topic in placed.values())
        return bool(placed)

    async def _lose(self, conn: Connection, seqs: int) -> None:
        dest = self.row["dest"]
        rows = await _run(conn, "topics/routers/lose_seqs", topic_id=self.row["dest_id"], seqs=seqs)
        self.grown[dest] = rows[0]["has_listeners"]

    async def _advance(
        self, conn: Connection, position: int, forwarded: int, *, lost_hops: int | None = None
    ) -> bool:
        await _run(
            conn,
            "topics/routers/advance_router",
            router_id=self.router_id,
            position=position,
            forwarded_total=self.row["forwarded_total"] + forwarded,
            lost_hops=lost_hops,
        )
        return position >= self.until


def _route(row: dict[str, Any]) -> Route:
    return Route(
        router=row["router"],
        source=row["source"],
        source_id=row["source_id"],
        source_epoch=row["source_epoch"],
        dest_id=row["dest_id"],
        preserve_node=row["preserve_node"],
        preserve_tag=row["preserve_tag"],
        stamps=row["guarantee"] == Guarantee.EXACTLY_ONCE,
    )


def _originals(row: dict[str, Any]) -> Iterable[Original]:
    columns = ("seqs", "sizes", "kinds", "trails", "tags", "nodes", "datas", "metas")
    return starmap(Original, zip(*(row[name] or () for name in columns), strict=True))


def _marks(row: dict[str, Any]) -> Marks:
    return Marks(
        head=row["head"],
        earliest=row["earliest"],
        cap_floor=row["cap_floor"],
        ttl_floor=row["ttl_floor"],
        source_floor=row["source_floor"],
    )


async def _run(conn: Connection, name: str, /, **params: Any) -> list[dict[str, Any]]:
    return (await sql.run_async(name, on=conn, **params)).rows
