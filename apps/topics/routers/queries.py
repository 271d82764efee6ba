"""Reads of routers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core import pgarray, sql
from apps.topics.appending import batch
from apps.topics.names import can_be_looked_up
from apps.topics.predicates import TagPredicate
from apps.topics.routers import forwarding
from apps.topics.routers.errors import RouterNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence


_ALL = 2**31


@dataclass(frozen=True, slots=True)
class RouterState:
    """A router and where it is."""

    router_id: int
    name: str
    source: str
    dest: str
    preserve_node: bool
    preserve_tag: bool
    filter: TagPredicate | None
    allow_cycle: bool
    guarantee: str
    position: int
    forwarded_total: int
    source_head: int


@dataclass(frozen=True, slots=True)
class RouterRow:
    """A router as a list shows it."""

    name: str
    source: str
    dest: str
    guarantee: str
    forwarded_total: int


@dataclass(frozen=True, slots=True)
class RouterLag:
    """How many seqs of its source a router has not dealt with, since when, and what keeps it: a pause, or no room."""

    name: str
    source: str
    dest: str
    guarantee: str
    forwarded_total: int
    is_paused: bool
    lag: int
    waiting_since: int | None
    is_full: bool


async def get_router(router: str) -> RouterState:
    """Return a router as it is; raises RouterNotFound."""
    rows: list[dict[str, Any]] = []
    if can_be_looked_up(router):
        rows = (await sql.run_async("topics/routers/read_router", name=router)).rows
    if not rows:
        raise RouterNotFound.of(router)
    [row] = rows
    return RouterState(
        router_id=row["id"],
        name=row["name"],
        source=row["source"],
        dest=row["dest"],
        preserve_node=row["preserve_node"],
        preserve_tag=row["preserve_tag"],
        filter=predicate_of(row["filter_text"], is_prefix=row["filter_is_prefix"]),
        allow_cycle=row["allow_cycle"],
        guarantee=row["guarantee"],
        position=row["position"],
        forwarded_total=row["forwarded_total"],
        source_head=row["head"],
    )


async def get_settled_router(state: RouterState) -> RouterState:
    """Return a router once it has dealt with what its source had; raises RouterNotFound if it is gone by then."""
    if state.position >= state.source_head:
        return state
    await forwarding.forward(state.router_id, until=state.source_head)
    return await get_router(state.name)


async def list_routers(
    ranges: Sequence[tuple[str, str]],
    *,
    after: str,
    limit: int,
    source: str | None = None,
    dest: str | None = None,
    prefixes: Sequence[str] = (),
) -> list[RouterRow]:
    """Return routers by name, within ranges [low, high) of names that don't overlap, between these topics."""
    if not all(can_be_looked_up(text) for text in (source or "", dest or "", *prefixes)):
        return []
    found = await sql.run_async(
        "topics/routers/list_routers",
        lows=pgarray.texts([low.encode() for low, _ in ranges]),
        highs=pgarray.texts([high.encode() for _, high in ranges]),
        after=after,
        limit=limit,
        source=source,
        dest=dest,
        prefixes=pgarray.texts([one.encode() for one in prefixes]) if prefixes else None,
    )
    return [RouterRow(**row) for row in found.rows]


async def count_routers() -> int:
    """Return how many routers there are."""
    return int((await sql.run_async("topics/routers/count_routers")).rows[0]["routers"])


async def router_lags(*, limit: int) -> list[RouterLag]:
    """Return the first routers by name, with how far they are behind."""
    found = await sql.run_async("topics/routers/list_lags", prefix="", limit=limit)
    return [RouterLag(**row) for row in found.rows]


def router_lags_now(prefix: str = "") -> list[RouterLag]:
    """Do as `router_lags` from sync code, for all whose names begin so."""
    if not can_be_looked_up(prefix):
        return []
    found = sql.run_bound("topics/routers/list_lags", prefix=prefix, limit=_ALL)
    return [RouterLag(**row) for row in found.rows]


def lag_of(router: str) -> RouterLag:
    """Return how far one router is behind; raises RouterNotFound."""
    for found in router_lags_now(router):
        if found.name == router:
            return found
    raise RouterNotFound.of(router)


def predicate_of(text: str | None, *, is_prefix: bool) -> TagPredicate | None:
    """Return a filter from its columns."""
    return None if text is None else TagPredicate(batch.unescape(text), is_prefix=is_prefix)
