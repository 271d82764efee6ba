"""The states of executions, their stages and event triggers, and the moves between them."""

from __future__ import annotations

from enum import StrEnum


class ExecutionStatus(StrEnum):
    RUNNING = "running"  # steps are started as they become ready; left by complete, fail, cancel, interrupt
    COMPLETED = "completed"  # final for ever
    FAILED = "failed"  # final unless someone asks for a retry
    CANCELLED = "cancelled"  # final unless someone asks for a retry
    INTERRUPTED = "interrupted"  # a fault of the service itself stopped it; left by retry, or by cancel through running


class StageStatus(StrEnum):
    PENDING = "pending"  # waits for the steps it needs; left by initiate, skip, fail, cancel
    INITIATED = "initiated"  # its runs are waiting for a worker; left as PROCESSING is
    PROCESSING = "processing"  # something is being done; left by complete, fail, cancel
    COMPLETED = "completed"
    FAILED = "failed"  # left by retry
    CANCELLED = "cancelled"  # left by retry
    SKIPPED = "skipped"  # its condition was false, or everything it needs was skipped


class TriggerState(StrEnum):
    """What an event trigger does (pipelines-storage.md §2)."""

    STOPPED = "stopped"
    STARTING = "starting"
    LISTENING = "listening"
    PAUSED = "paused"
    DEGRADED = "degraded"
    FAILED = "failed"


E, S = ExecutionStatus, StageStatus

FINAL = frozenset({E.COMPLETED, E.FAILED, E.CANCELLED})
ENDED = frozenset({S.COMPLETED, S.FAILED, S.CANCELLED, S.SKIPPED})
ACTIVE = frozenset({S.INITIATED, S.PROCESSING})
# What a retry does again.
UNDONE = frozenset({S.FAILED, S.CANCELLED})

EXECUTION_MOVES: dict[ExecutionStatus, frozenset[ExecutionStatus]] = {
    E.RUNNING: frozenset({E.COMPLETED, E.FAILED, E.CANCELLED, E.INTERRUPTED}),
    E.COMPLETED: frozenset(),
    E.FAILED: frozenset({E.RUNNING}),
    E.CANCELLED: frozenset({E.RUNNING}),
    E.INTERRUPTED: frozenset({E.RUNNING}),
}
STAGE_MOVES: dict[StageStatus, frozenset[StageStatus]] = {
    S.PENDING: frozenset(
        {S.INITIATED, S.PROCESSING, S.COMPLETED, S.FAILED, S.CANCELLED, S.SKIPPED}
    ),
    S.INITIATED: frozenset({S.PROCESSING, S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.PROCESSING: frozenset({S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset({S.PENDING}),
    S.CANCELLED: frozenset({S.PENDING}),
    S.SKIPPED: frozenset({S.PENDING}),
}
