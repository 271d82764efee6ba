"""A worker process's place on its machine, and its one agent."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from django.conf import settings

from apps.runs.executors.supervision import proctree
from apps.runs.worker.agent import Agent

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Slot:
    """A worker's place on this machine, held for as long as its process lives."""

    name: str
    # Tells this place from every other one, so that two workers of one name are not taken for one that was restarted.
    instance: str
    root: Path


@contextmanager
def _slot(root: Path) -> Iterator[Slot]:
    """Take the first free worker slot of this machine and hold it: a restart gets the same one again."""
    number = 0
    while True:
        number += 1
        directory = root / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = (directory / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        try:
            name = f"{settings.GYOZA_HOSTNAME}-{number}"
            yield Slot(name, _identity(lock), directory / "attempts")
        finally:
            lock.close()
        return


def _identity(lock: IO[str]) -> str:
    """Name a file that is like no other, on whatever machine: one process at a time can hold it."""
    status = os.fstat(lock.fileno())
    said = f"{proctree.boot_id()} {status.st_dev} {status.st_ino}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


# How long a thread that computes keeps those waiting who have heard from Postgres or an executor: the agent and the engine
# of pipelines talk to them all the time, and with Python's own 5 ms each word cost that much.
_SWITCH_SECONDS = 0.001

_agent: Agent | None = None
_held = ExitStack()


def start() -> None:
    """Start this process's agent."""
    global _agent
    sys.setswitchinterval(_SWITCH_SECONDS)
    slot = _held.enter_context(_slot(Path(settings.GYOZA_HOME) / "workers"))
    given = settings.GYOZA_WORKER_NAME
    _agent = Agent(
        worker_id=given or slot.name,
        # Two homes on one machine count their slots alike.
        spare_id="" if given else f"{slot.name}-{slot.instance[:6]}",
        instance=slot.instance,
        root=slot.root,
    )
    _agent.start()


def nudge() -> None:
    """Wake this process's agent, if it has one."""
    if _agent is not None:
        _agent.nudge()


def hears() -> bool:
    """Say whether this process's agent hears nudges without Celery."""
    return _agent is not None and _agent.hears


def drain() -> None:
    """Let this process's agent claim nothing more."""
    if _agent is not None:
        _agent.drain()


def stop() -> None:
    """Stop this process's agent; returns when it has left."""
    global _agent
    if _agent is not None:
        _agent.stop()
        _agent = None
        _held.close()
