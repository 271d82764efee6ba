"""Sync code called from the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a sync function that uses the ORM; its database connection goes back to the pool afterwards."""

    def call() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            # No request ends in this thread, so nobody else would return its connection.
            if not connection.in_atomic_block:
                connection.close()

    return await sync_to_async(call)()
