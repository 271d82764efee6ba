"""Which routers there are: changed by one at a time, and noted on the topics at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core import pgarray, sql

if TYPE_CHECKING:
    from collections.abc import Collection


def hold() -> None:
    """Have the turn to add and remove routers until the transaction ends. To be taken before any lock of a row."""
    sql.run_bound("topics/routers/lock_routers")


def mark(topic_ids: Collection[int]) -> None:
    """Note on topics whether routers read them and feed them, after a change; it locks them."""
    sql.run_bound("topics/routers/mark_routed", ids=pgarray.bigints(sorted(topic_ids)))


def remove_routers_of(topic: str) -> list[str]:
    """Remove the routers from and to a topic, in the transaction that deletes it; return their names, sorted."""
    hold()
    removed = sql.run_bound("topics/routers/remove_routers", name=topic).rows
    mark({row[end] for row in removed for end in ("source_id", "dest_id")})
    return sorted(row["name"] for row in removed)


def cycle(*, router: str, source: str, dest: str) -> list[str] | None:
    """Return the circle that a router would close, from its source to its source; None if it closes none."""
    found = sql.run_bound("topics/routers/find_way_up", bottom=source, top=dest, router=router).rows
    way = [row["name"] for row in found]
    return [source, *reversed(way)] if way and way[-1] == dest else None
