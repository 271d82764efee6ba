"""Sync code called from the event loop, and async code called from where there is none."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

from apps.core import lifespan
from apps.core.sse import hub

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function that uses the ORM; its database connection goes back to the pool afterwards."""
    return await sync_to_async(_giving_back(partial(function, *args, **kwargs)))()


async def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do as `in_thread`, beside other calls instead of after them: for what may wait for locks, or take long."""
    call = _giving_back(partial(function, *args, **kwargs))
    return await sync_to_async(call, thread_sensitive=False)()


def _giving_back(function: Callable[[], T]) -> Callable[[], T]:
    def call() -> T:
        try:
            return function()
        finally:
            # No request ends in this thread, so nobody else would return its connection.
            if not connection.in_atomic_block:
                connection.close()

    return call


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in an event loop of its own, with connections of its own; wake-ups go out.

    It sees what is committed, not what the caller's transaction has done so far.
    """

    async def scene() -> T:
        try:
            return await work
        finally:
            await hub.current().flush()
            await lifespan.close_loop()

    return asyncio.run(scene())
