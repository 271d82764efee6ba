"""What an executor is: the verbs, and the plain data they exchange."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

_ATTEMPT_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class ExecutorFailure(Exception):
    """The executor itself can't do what it was asked; `permanent` = asking again won't help.

    An op that fails is not an ExecutorFailure but an Outcome.
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """Everything an executor needs to know to start one attempt."""

    attempt_id: str
    run_id: str
    attempt: int
    command: tuple[str, ...] | None = None
    python: str | None = None
    image: str | None = None
    env: Mapping[str, str]
    inputs_json: bytes
    timeout_s: float | None = None
    cpu: int | None = None
    ram_mb: int | None = None
    gpu_id: int | None = None
    grace_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Handle:
    """Where to find a launched attempt again, also from another process after a crash.

    `pid` is the supervising process and `born` says which process of that number is meant: boot id
    and start time. A pid that now belongs to someone else never matches, so it is never signalled.
    """

    executor: str
    attempt_id: str
    pid: int = 0
    born: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads back; JSON scalars only."""
        # Written out, because `asdict` copies deeply, which for four scalars costs more than a launch.
        return {
            "executor": self.executor,
            "attempt_id": self.attempt_id,
            "pid": self.pid,
            "born": self.born,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Handle:
        """Rebuild a handle that was stored as JSON."""
        return cls(data["executor"], data["attempt_id"], data.get("pid", 0), data.get("born", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    exit_code: int | None = None
    signal: int | None = None
    outputs: dict[str, Any] | None = None
    error: str = ""
    timed_out: bool = False
    duration_ms: int = 0
    started: bool = True
    stopped: bool = False  # it ended because stop() was asked
    lost: bool = False  # its supervisor vanished, so nobody knows how the op itself ended

    @property
    def succeeded(self) -> bool:
        """Whether the op did its work: exit status 0 and nothing to complain of."""
        return self.exit_code == 0 and not self.error


@dataclass(frozen=True, slots=True)
class Message:
    """One `{"gyoza": …}` line of an op's stdout: `kind` is progress, info or output."""

    kind: str
    at: float
    value: Any = None
    msg: str = ""
    payload: dict[str, Any] | None = None
    name: str = ""


class Executor(ABC):
    """Starts and stops attempts somewhere. Knows nothing of Django, the database or HTTP.

    Every verb may be called from any thread. An attempt outlives the process that launched it: a
    new executor over the same `root` takes it up with the same Handle, simply by polling it.
    """

    name: ClassVar[str]

    #: Called, from any thread, when an attempt may have ended or said something. It may be called
    #: too often, so it should only nudge; `poll` stays the truth. It must not raise.
    on_news: Callable[[str], None] | None = None

    def __init__(self, root: Path, options: Mapping[str, Any]) -> None:
        self.root = root
        self.options = dict(options)

    @abstractmethod
    def launch(self, spec: LaunchSpec) -> Handle:
        """Start the attempt. Launching the same attempt_id twice returns the same handle.

        Raises ExecutorFailure. A command that can't be started is not a failure of the executor:
        the outcome says so (`started` false).
        """

    @abstractmethod
    def poll(self, handle: Handle) -> Outcome | None:
        """Return the outcome if the attempt has ended, else None. Never blocks.

        The outcome is final and the same each time until `forget`, also after a restart. The first
        poll of an attempt launched elsewhere adopts it: `on_news` covers it from then on.
        """

    @abstractmethod
    def read_log(self, handle: Handle, offset: int) -> bytes:
        """Return log bytes from `offset`, at most 1 MiB; empty when there is nothing further yet."""

    @abstractmethod
    def read_messages(self, handle: Handle, offset: int) -> tuple[list[Message], int]:
        """Return the messages from `offset` on and the offset to go on from."""

    @abstractmethod
    def stop(self, handle: Handle, *, grace: float) -> None:
        """Ask the attempt to end, and force it after `grace` seconds. Returns at once.

        The grace is kept by the supervisor, so it holds even when the caller dies. Asking again
        may shorten the grace, never lengthen it. Stopping what has ended is not an error.
        """

    @abstractmethod
    def forget(self, handle: Handle) -> None:
        """Remove every trace; what still runs is killed first. Forgetting twice is not an error."""

    def storage_dir(self, handle: Handle) -> Path:
        """Return the directory the op sees as GYOZA_STORAGE_DIR; may not exist (any more)."""
        return self.root / handle.attempt_id / "storage"

    def together(self) -> AbstractContextManager[None]:
        """Launch many: what is launched inside may be handed over at the end, all at once."""
        return nullcontext()

    def is_waiting(self, handle: Handle) -> bool:
        """Whether a launched attempt has not begun because others must end first."""
        return False

    def leftovers(self) -> list[Handle]:
        """Return every attempt found under `root`, for a worker that starts to adopt or forget."""
        return []

    def check(self) -> list[str]:
        """Reasons why this executor can't work here; empty if it can. Feeds `manage.py check`."""
        return []

    def close(self) -> None:
        """Let go of threads and sockets of this process. Running attempts go on."""
        return


def checked_attempt_id(attempt_id: str) -> str:
    """Return `attempt_id`, which becomes a directory name; raise ExecutorFailure if it can't."""
    if not _ATTEMPT_ID.fullmatch(attempt_id):
        raise ExecutorFailure(f"not usable as an attempt id: {attempt_id!r}", permanent=True)
    return attempt_id
