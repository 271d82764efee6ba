"""Whose storage the op of a run may touch: asked of those who know runs, which storage doesn't."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from uuid import UUID

from apps.access.auth import Caller
from apps.core.errors import GyozaError

# Returns the execution of the run that each caller is, None if it has none; or the error, if the attempt has ended.
ExecutionsOf = Callable[[Collection[Caller]], Mapping[Caller, UUID | GyozaError | None]]

_asked: list[ExecutionsOf] = []


def register(executions_of: ExecutionsOf) -> None:
    """Have somebody asked from now on; at start."""
    _asked[:] = [executions_of]


def executions_of(callers: Collection[Caller]) -> Mapping[Caller, UUID | GyozaError | None]:
    """Return the execution that each of these runs' tokens stands for, or why none."""
    return _asked[0](callers) if _asked else dict.fromkeys(callers)


def execution_of(caller: Caller) -> UUID | None:
    """Return the execution that a run's token stands for; raises why it stands for none."""
    found = executions_of([caller])[caller]
    if isinstance(found, GyozaError):
        raise found
    return found
