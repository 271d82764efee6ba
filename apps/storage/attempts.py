"""Whose storage the op of a run may touch: asked of those who know runs, which storage doesn't."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from apps.access.auth import Caller
from apps.core.errors import GyozaError
from apps.core.steps import Statement, carry_out

if TYPE_CHECKING:
    from apps.core.steps import Steps

# Returns the execution of the run that each caller is, None if it has none; or the error, if the attempt has ended.
Executions = Mapping[Caller, UUID | GyozaError | None]
ExecutionsOf = Callable[
    [Collection[Caller]], Generator[Statement, list[dict[str, Any]], Executions]
]

_asked: list[ExecutionsOf] = []


def register(executions_of: ExecutionsOf) -> None:
    """Have somebody asked from now on; at start."""
    _asked[:] = [executions_of]


def executions_of(callers: Collection[Caller]) -> Steps[Executions]:
    """Return the execution that each of these runs' tokens stands for, or why none."""
    if not (callers and _asked):
        return dict.fromkeys(callers)
    return (yield from _asked[0](callers))


def execution_of(caller: Caller) -> UUID | None:
    """Return the execution that a run's token stands for; raises why it stands for none."""
    found = carry_out(executions_of([caller]))[caller]
    if isinstance(found, GyozaError):
        raise found
    return found
