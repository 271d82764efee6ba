"""What happens here when runs start and end, and when topics that triggers follow grow."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from apps.core import queue
from apps.pipelines import transitions
from apps.pipelines.execution import engine
from apps.pipelines.execution.starting import DISPATCH_TASK
from apps.runs.signals import runs_moved
from apps.topics.services import register_listener

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

# The nudge on its way; what grows meanwhile is found by the dispatcher it wakes, or by the next.
_under_way: set[asyncio.Future[None]] = set()


def connect() -> None:
    """Listen to runs that move, and to topics that grow."""
    runs_moved.connect(look_at_executions, dispatch_uid="pipelines.look_at_executions")
    register_listener(
        wake=dispatch_soon, nudge_on_commit=partial(queue.nudge_on_commit, DISPATCH_TASK)
    )


def look_at_executions(*, ended_in: list[UUID], started_in: list[UUID], **_: Any) -> None:
    """Have executions looked at whose runs have moved: by the engine of this process, else by whoever hears of it."""
    if not engine.tell(ended_in=ended_in, started_in=started_in):
        transitions.wake([*ended_in, *started_in])


def dispatch_soon(_topics: Collection[str]) -> None:
    """Wake the dispatcher; from the event loop, which must not wait for Redis."""
    future = asyncio.get_running_loop().run_in_executor(None, queue.nudge, DISPATCH_TASK)
    _under_way.add(future)
    future.add_done_callback(_under_way.discard)
