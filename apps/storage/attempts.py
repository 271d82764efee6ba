"""Whose storage the op of a run may touch: asked of those who know runs, which storage doesn't."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from apps.access.auth import Caller

# Returns the execution of the run that calls, None if it has none; raises Unauthorized if the attempt has ended.
ExecutionOf = Callable[[Caller], UUID | None]

_asked: list[ExecutionOf] = []


def register(execution_of: ExecutionOf) -> None:
    """Have somebody asked from now on; at start."""
    _asked[:] = [execution_of]


def execution_of(caller: Caller) -> UUID | None:
    """Return the execution that a run's token stands for."""
    return _asked[0](caller) if _asked else None
