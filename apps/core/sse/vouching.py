"""Streams that were opened by a session end with it: whoever has logged out, or left, hears no more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg

from apps.core import sql
from apps.core.errors import Forbidden, Unauthorized, Unavailable
from apps.core.sse.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# A session's end is told by nobody, unlike a key's. One look at two rows.
LOOK_SECONDS = 30.0


def ask_again(response: object, identify: Callable[[], Awaitable[object]]) -> None:
    """End a stream once whoever opened it would no longer be let in. Answers that end by themselves are left alone."""
    if isinstance(response, Lasting):
        asking = asyncio.get_running_loop().create_task(_ask(response, identify))
        response.on_release(lambda: _give_up(asking))


def _give_up(asking: asyncio.Task[None]) -> None:
    asking.cancel()


async def _ask(response: Lasting, identify: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await identify()
        except (Unauthorized, Forbidden):
            response.end()
            return
        except (Unavailable, *sql.AWAY, psycopg.OperationalError):
            continue  # nobody can tell now
