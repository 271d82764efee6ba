"""Run async code of ours from a test, and leave no pool or subscriber behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from apps.core import asyncdb
from apps.core.sse import hub

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own; what it writes is committed (use `transaction=True`)."""

    async def scene() -> T:
        try:
            return await work
        finally:
            await hub.current().close()
            await asyncdb.close()

    return asyncio.run(scene())
