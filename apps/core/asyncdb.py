"""Postgres for the event loop: one small connection pool per process.

Nobody holds a connection while waiting for anything but Postgres: a stream reads, gives the connection back, waits.
Statements run through `core.sql.run_async`; this module only lends connections.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import connections
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from apps.core.postgres.farewells import has_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connection = AsyncConnection[Any]

# So much of a statement goes to Postgres in one call. What doesn't fit waits for another turn of the event loop, again
# and again: by default, a group of appends a dozen times. Where the kernel allows less, it takes what it allows.
_SEND_BYTES = 4 * 1024 * 1024

# By event loop, because a pool's locks belong to the loop that opened it; a web process has one.
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncConnectionPool[Connection]] = (
    WeakKeyDictionary()
)


@asynccontextmanager
async def connection() -> AsyncIterator[Connection]:
    """Lend an autocommit connection; waits for a free one, at most the pool's timeout."""
    pool = _pools.get(asyncio.get_running_loop()) or await _open()
    while True:
        async with pool.connection() as lent:
            # Not the pool's own check, which after each dead connection waits twice as long before the next look.
            if has_ended(lent):
                await lent.close()  # it is not lent again
                continue
            yield lent
            return


@asynccontextmanager
async def transaction() -> AsyncIterator[Connection]:
    """Lend a connection inside a transaction that commits at the end, or rolls back on an exception."""
    async with connection() as lent, lent.transaction():
        yield lent


async def close() -> None:
    """Close the pool of the running loop; the next use opens a new one."""
    pool = _pools.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.close()


async def _open() -> AsyncConnectionPool[Connection]:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = settings.GYOZA_DB_POOL_OPTIONS
    # Without await between the look-up and the store, so two first users share one pool.
    pool = AsyncConnectionPool[Connection](
        kwargs=_parameters(),
        configure=_configure,
        open=False,
        name="gyoza-async",
        **options,
    )
    _pools[loop] = pool
    await pool.open()
    return pool


async def _configure(made: Connection) -> None:
    with socket.socket(fileno=os.dup(made.fileno())) as link:
        if link.family == socket.AF_UNIX:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)


def _parameters() -> dict[str, Any]:
    """Return what Django connects with, so that both sides always see the same database."""
    params = dict(connections["default"].get_connection_params())
    for only_django in ("cursor_factory", "context", "server_side_binding", "isolation_level"):
        params.pop(only_django, None)
    options = str(params.get("options") or "")
    # Every statement here is prepared and finds its rows by index whatever the values: plan it once. And never as a
    # scan because a table was small when it was planned: queues and topics grow by thousands of rows a second.
    params["options"] = (
        f"{options} -c plan_cache_mode=force_generic_plan -c enable_seqscan=off".strip()
    )
    params["autocommit"] = True
    params["prepare_threshold"] = 0
    return params
