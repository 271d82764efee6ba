"""Watch sessions: made once, opened by streams of any web process, kept while one is open (topics v0 §17.1–§17.4)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import msgspec
from django.conf import settings

from apps.core import asyncdb, pgarray, sql
from apps.core.errors import NotFound, Throttled
from apps.topics.errors import TopicNotFound
from apps.topics.keeping import eviction, settling
from apps.topics.names import can_be_looked_up
from apps.topics.watch.positions import MAX_TOPICS, Position, joined, resumed
from apps.topics.watch.readings import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from apps.topics.watch.positions import Told

TTL_MS = 300_000

_Stored = Annotated[list[int], msgspec.Meta(min_length=4, max_length=4)]


class Subscription(msgspec.Struct, frozen=True):
    """What a session wants, as it is stored."""

    selection: Selection
    heartbeat_ms: int
    # The ranges of names whose topics join when they appear.
    ranges: tuple[tuple[str, str], ...] = ()

    def takes_in(self, name: str) -> bool:
        """Say whether a topic of this name joins."""
        return any(low <= name < high for low, high in self.ranges)


class Found(msgspec.Struct, frozen=True):
    """A topic that is about to be watched."""

    topic_id: int
    head: int
    earliest: int


class Session(msgspec.Struct, frozen=True):
    """A stored session: whose it is and what it wants."""

    wid: str
    key_id: UUID | None
    subscription: Subscription


class Opening(msgspec.Struct, frozen=True):
    """What a stream found when it opened a session."""

    epoch: int
    positions: dict[str, Position]
    open_before: int


async def find_topics(names: list[str], *, lenient: bool = False) -> dict[str, Found]:
    """Return the topics of these names, settled; raises TopicNotFound for the first that is missing, unless `lenient`."""
    rows = await _topic_rows(names)
    unsettled = [name for name, row in rows.items() if row["unsettled"]]
    for name in unsettled:
        await settling.settle_async(name)
    if unsettled:
        rows = await _topic_rows(names)
    found = {}
    for name in names:
        row = rows.get(name)
        if row is not None:
            found[name] = Found(row["id"], row["head"], row["earliest"])
        elif not lenient:
            raise TopicNotFound.of(name)
    return found


async def create(
    *, key_id: UUID | None, subscription: Subscription, positions: Mapping[str, Position]
) -> str:
    """Store a session and return its name, which nobody can guess; raises Throttled if there are too many."""
    wid = f"wid_{secrets.token_urlsafe(16)}"
    now = eviction.now_ms()
    most = settings.GYOZA_MAX_WATCH_SESSIONS
    async with asyncdb.transaction() as conn:
        if most:
            await sql.run_async("topics/lock_watches", on=conn)
        await sql.run_async("topics/forget_watches", on=conn, now=now)
        added = await sql.run_async(
            "topics/add_watch",
            on=conn,
            wid=wid,
            key_id=key_id,
            # As a string: jsonb takes no U+0000, which tags and nodes may hold.
            subscription=_text(msgspec.json.encode(subscription)),
            positions=encode_positions(positions).decode(),
            now=now,
            expires_ts=now + TTL_MS,
            most=most,
        )
    if not added.rows:
        raise Throttled("there are too many watch sessions", limit="max_watch_sessions", max=most)
    return wid


async def get(wid: str) -> Session:
    """Return a session; raises NotFound for one that is unknown or was not used for too long."""
    rows = []
    if len(wid) <= 64 and wid.isascii() and "\0" not in wid:
        rows = (await sql.run_async("topics/find_watch", wid=wid, now=eviction.now_ms())).rows
    if not rows:
        raise NotFound("there is no such watch session, or no more; create it anew")
    [row] = rows
    return Session(wid, row["key_id"], _subscription.decode(row["subscription"]))


async def open_stream(wid: str, *, takes_over: bool) -> Opening | None:
    """Count a stream of a session; with `takes_over` it is the only one from here on. None if the session has gone."""
    now = eviction.now_ms()
    async with asyncdb.transaction() as conn:
        await sql.run_async("topics/forget_watches", on=conn, now=now)
        rows = (
            await sql.run_async(
                "topics/open_watch",
                on=conn,
                wid=wid,
                now=now,
                expires_ts=now + TTL_MS,
                takes_over=takes_over,
            )
        ).rows
    if not rows:
        return None
    [row] = rows
    return Opening(row["epoch"], _decode_positions(row["positions"]), row["open_before"])


def resume(
    subscription: Subscription,
    stored: Mapping[str, Position],
    told: Mapping[str, Told],
    *,
    is_exact: bool,
) -> dict[str, Position]:
    """Return where a stream goes on whose client was told so much (§17.4)."""
    # Where no topic comes or goes an id names all of them. One that doesn't is another session's: it advances nothing.
    is_another = not subscription.ranges and not told.keys() >= stored.keys()
    positions = {
        name: resumed(position, told[name], is_exact=is_exact or is_another)
        if name in told
        else position
        for name, position in stored.items()
    }
    for name in sorted(told.keys() - stored.keys()):
        # An id may name thousands.
        if len(positions) < MAX_TOPICS and subscription.takes_in(name):
            positions[name] = joined(told[name], is_exact=is_exact)
    return positions


async def keep(notes: Mapping[str, tuple[int, bytes | None, int]]) -> set[str]:
    """Write down epoch, positions (if they moved) and ended streams by session; return those that are still ours."""
    wids = sorted(notes)
    epochs, positions, ended = zip(*(notes[wid] for wid in wids), strict=True)
    kept = await sql.run_async(
        "topics/keep_watches",
        wids=pgarray.texts([wid.encode() for wid in wids]),
        epochs=pgarray.ints(epochs),
        positions=pgarray.texts(positions),
        ended=pgarray.ints(ended),
        expires_ts=eviction.now_ms() + TTL_MS,
    )
    return {row["wid"] for row in kept.rows}


async def count() -> int:
    """Return how many sessions are stored."""
    found = await sql.run_async("topics/count_watches", now=eviction.now_ms())
    return int(found.rows[0]["sessions"])


def encode_positions(positions: Mapping[str, Position]) -> bytes:
    """Return positions as they are stored."""
    return msgspec.json.encode(
        {name: (p.first_incarnation, p.incarnation, p.seq, p.head) for name, p in positions.items()}
    )


def _text(encoded: bytes) -> str:
    return msgspec.json.encode(encoded.decode()).decode()


def _decode_positions(text: str) -> dict[str, Position]:
    return {
        name: Position(incarnation, seq, head, first)
        for name, (first, incarnation, seq, head) in _positions.decode(text).items()
    }


async def _topic_rows(names: list[str]) -> dict[str, dict[str, Any]]:
    possible = [name.encode() for name in names if can_be_looked_up(name)]
    found = await sql.run_async(
        "topics/find_topics", names=pgarray.texts(possible), now=eviction.now_ms()
    )
    return {row["name"]: row for row in found.rows}


_subscription = msgspec.json.Decoder(Subscription)
_positions = msgspec.json.Decoder(dict[str, _Stored])
