"""The states of a run and of a worker, the moves between them, and the types of timeline events."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    PENDING = "PENDING"  # waits for a worker; left by assign (a claim) or cancel
    ASSIGNED = "ASSIGNED"  # a worker holds the lease; left by start, release or cancel
    RUNNING = "RUNNING"  # the worker reported STARTED; left by complete, fail, cancel, retry, lose
    COMPLETED = "COMPLETED"  # final for ever
    FAILED = "FAILED"  # final unless someone asks for a retry
    CANCELLED = "CANCELLED"  # final unless someone asks for a retry


S = RunState
FINAL = frozenset({S.COMPLETED, S.FAILED, S.CANCELLED})
ACTIVE = frozenset({S.PENDING, S.ASSIGNED, S.RUNNING})
HOLDS_RESOURCES = frozenset({S.ASSIGNED, S.RUNNING})
MOVES: dict[RunState, frozenset[RunState]] = {
    S.PENDING: frozenset({S.ASSIGNED, S.CANCELLED}),
    S.ASSIGNED: frozenset({S.RUNNING, S.PENDING, S.CANCELLED}),
    S.RUNNING: frozenset({S.COMPLETED, S.FAILED, S.CANCELLED, S.PENDING}),
    S.FAILED: frozenset({S.PENDING}),
    S.CANCELLED: frozenset({S.PENDING}),
    S.COMPLETED: frozenset(),
}


class EventType(StrEnum):
    """What happened to a run: the types of its timeline events, which its topic's feed repeats."""

    ASSIGNED = "ASSIGNED"  # a worker claimed the run
    STARTED = "STARTED"  # the op has begun
    INFO = "INFO"  # the op, its worker or the service says something; `payload` is free
    PROGRESS = "PROGRESS"  # how far the op is; `msg` is a number from 0 to 100
    COMPLETED = "COMPLETED"  # the op ended well; the run is final
    FAILED = "FAILED"  # the last attempt that the policy allows has failed; `msg` says why
    CANCELLED = "CANCELLED"  # somebody asked, and nothing runs any more
    ERROR = "ERROR"  # why the attempt is over, before RETRIED; or a complaint of the op that ends nothing
    RETRIED = "RETRIED"  # the first event of the next attempt


class ExecutorName(StrEnum):
    """What carries out a run; chosen by the field the definition gives."""

    DOCKER = "docker"
    PROCESS = "process"
    PYTHON = "python"


class WorkerState(StrEnum):
    """What a worker does with new work."""

    READY = "READY"  # claims; left by drain or loss
    DRAINING = "DRAINING"  # finishes what it holds, claims nothing; left by resume or loss
    LOST = "LOST"  # silent for too long, or gone; left by its next heartbeat


class WorkerKind(StrEnum):
    """How a worker talks to us."""

    CELERY = "celery"
    PULL = "pull"
