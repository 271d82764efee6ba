"""The one place that executes raw SQL: statements live in `sql/<function>.sql` of an app or of a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import InterfaceError, OperationalError, connection
from django.db.backends.postgresql.base import ServerBindingCursor
from psycopg.pq import Format
from psycopg.sql import SQL, Identifier, Literal

from apps.core import asyncdb

if TYPE_CHECKING:
    from collections.abc import Sequence

# The loader of moments that is psycopg's own, in C; the one that Django puts in its place is ten times as slow.
_MOMENTS = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)

# Postgres is away, was restarted in between, or ended a transaction for the sake of another: trying again helps. Anything
# else that a statement raises is about what it was given.
AWAY = (OperationalError, InterfaceError)

APPS = Path(__file__).resolve().parent.parent


@cache
def statement(name: str) -> str:
    """Return `<app>/<function>` or `<app>/<part>/<function>` without comments; raises FileNotFoundError if there is none."""
    folder, _, function = name.rpartition("/")
    lines = (APPS / folder / "sql" / f"{function}.sql").read_text("utf-8").splitlines(keepends=True)
    # psycopg parses what is longer than 4 KiB again at each execution.
    return "".join([line for line in lines if not line.lstrip().startswith("--")])


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of a statement, and how many rows it touched."""

    rows: list[dict[str, Any]]
    count: int


def run(name: str, /, **params: Any) -> Result:
    """Execute a statement with named parameters on Django's connection and return its rows as dicts."""
    with connection.cursor() as cursor:
        cursor.execute(statement(name), params)
        return _result(cursor)


def run_bound(name: str, /, **params: Any) -> Result:
    """Do as `run`, with the parameters sent beside the statement instead of written into it.

    For big arrays (`core.pgarray`): nothing is quoted, copied or parsed as SQL. Every parameter whose type
    Postgres can't see from its place needs a cast in the statement.
    """
    connection.ensure_connection()
    # Django's own cursor() with another class of cursor below it.
    wrap: Any = connection._prepare_cursor  # type: ignore[attr-defined]
    bound = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    bound.adapters.register_loader("timestamptz", _MOMENTS)  # type: ignore[attr-defined]
    with connection.wrap_database_errors, wrap(bound) as cursor:
        cursor.execute(statement(name), params)
        return _result(cursor)


def run_composed(name: str, /, **parts: str | int) -> Result:
    """Do as `run`, with names (str) and numbers (int) written in place of `{…}`, where Postgres takes no parameters."""
    composed = SQL(statement(name)).format(
        **{k: Identifier(v) if isinstance(v, str) else Literal(v) for k, v in parts.items()}
    )
    with connection.cursor() as cursor:
        cursor.execute(composed)
        return _result(cursor)


async def run_async(
    name: str, /, *, on: psycopg.AsyncConnection[Any] | None = None, **params: Any
) -> Result:
    """Do as `run_bound` in the event loop: on `on`, else in its own transaction on a pooled connection.

    The statement is prepared, so each connection plans it once. Raises psycopg's own errors.
    """
    if on is None:
        async with asyncdb.connection() as pooled:
            return await _execute(pooled, name, params)
    return await _execute(on, name, params)


async def _execute(on: psycopg.AsyncConnection[Any], name: str, params: dict[str, Any]) -> Result:
    cursor = await on.execute(statement(name), params, prepare=True, binary=True)
    names = _names(cursor)
    if not names:
        return Result([], cursor.rowcount)
    rows: Sequence[tuple[Any, ...]] = await cursor.fetchall()
    return Result([dict(zip(names, row, strict=True)) for row in rows], cursor.rowcount)


def _result(cursor: Any) -> Result:
    names = _names(cursor)
    if not names:
        return Result([], cursor.rowcount)
    return Result(
        [dict(zip(names, row, strict=True)) for row in cursor.fetchall()], cursor.rowcount
    )


def _names(cursor: Any) -> list[str]:
    """Return the column names; `cursor.description` would build an object for each, at each execution."""
    result = cursor.pgresult
    return [result.fname(number).decode() for number in range(result.nfields)]
