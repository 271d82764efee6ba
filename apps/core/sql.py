"""The one place that executes raw SQL: statements live in `apps/<app>/sql/<function>.sql`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection

APPS = Path(__file__).resolve().parent.parent


@cache
def statement(name: str) -> str:
    """Return the text of `<app>/<function>`; raises FileNotFoundError for a name that has no file."""
    app, _, function = name.partition("/")
    return (APPS / app / "sql" / f"{function}.sql").read_text("utf-8")


class Result(NamedTuple):
    """The rows of a statement, and how many rows it touched."""

    rows: list[dict[str, Any]]
    count: int


def run(name: str, /, **params: Any) -> Result:
    """Execute a statement with named parameters on Django's connection and return its rows as dicts."""
    with connection.cursor() as cursor:
        cursor.execute(statement(name), params)
        if cursor.description is None:
            return Result([], cursor.rowcount)
        names = [column.name for column in cursor.description]
        return Result(
            [dict(zip(names, row, strict=True)) for row in cursor.fetchall()], cursor.rowcount
        )
