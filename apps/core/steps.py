"""Transactions written once, for threads and for the event loop: a generator asks for statements and gets their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from apps.core import sql

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from apps.core.asyncdb import Connection

T = TypeVar("T")

if TYPE_CHECKING:
    Rows: TypeAlias = list[dict[str, Any]]
    Steps: TypeAlias = Generator["Statement", Rows, T]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of `core.sql` and its parameters."""

    name: str
    params: dict[str, Any]


def carry_out(steps: Steps[T]) -> T:
    """Carry steps out on Django's connection and return what they come to."""
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(sql.run_bound(wanted.name, **wanted.params).rows)
    except StopIteration as end:
        found: T = end.value
        return found


async def carry_out_on(conn: Connection, steps: Steps[T]) -> T:
    """Carry steps out on a connection of the event loop and return what they come to."""
    try:
        wanted = next(steps)
        while True:
            result = await sql.run_async(wanted.name, on=conn, **wanted.params)
            wanted = steps.send(result.rows)
    except StopIteration as end:
        found: T = end.value
        return found
