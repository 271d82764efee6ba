"""The process executor: a command on this machine, in a process group and directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from apps.runs.executors import environment, files
from apps.runs.executors.base import (
    Executor,
    ExecutorFailure,
    Handle,
    LaunchSpec,
    Message,
    Outcome,
    checked_attempt_id,
)
from apps.runs.executors.supervision import outcomes, proctree, workspace
from apps.runs.executors.supervision.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from apps.runs.executors.supervision import runner; runner.main(sys.argv[1])"
_PROJECT = str(Path(__file__).resolve().parents[3])
_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class ProcessExecutor(Executor):
    """Runs `command` under a small supervisor (`supervision.runner`) that survives this process.

    Options:
    `env`: variables every op gets, below those of its definition;
    `pass_env`: names of variables handed on from this process;
    `nofile`: soft limit of open files (1024, what select(2) can bear; an op may raise it itself);
    `limit_memory`: make `ram_mb` a hard limit, per process, on private writable memory. Off, because
    `ram_mb` is what the scheduler reserves, and few ops know their peak; either way ops are the first
    to go when the machine runs out.

    There is no limit on the number of processes: the kernel counts those per user, not per op.
    """

    name: ClassVar[str] = "process"

    def __init__(self, root: Path, options: Mapping[str, Any]) -> None:
        super().__init__(root, options)
        self._lock = threading.Lock()
        self._notifier = Notifier(root, self._tell)

    def launch(self, spec: LaunchSpec) -> Handle:
        if not spec.command:
            raise ExecutorFailure("a process op needs a command", permanent=True)
        directory = self.root / checked_attempt_id(spec.attempt_id)
        try:
            # Two threads with one attempt would otherwise both find no handle yet.
            with self._lock:
                handle = self._resume(spec.attempt_id, directory)
                if handle is None:
                    handle = self._begin(spec, directory)
        except OSError as exc:
            files.remove(directory)
            raise ExecutorFailure(f"can't start a process: {exc}", permanent=False) from exc
        self._notifier.watch(handle.attempt_id, handle.pid, handle.born)
        return handle

    def poll(self, handle: Handle) -> Outcome | None:
        # A supervisor writes the outcome last of all. What is there before its end, the op has put there.
        if self._notifier.is_watched(handle.attempt_id):
            return None
        if self._notifier.watch(handle.attempt_id, handle.pid, handle.born):
            return None
        directory = self.root / handle.attempt_id
        return files.read_outcome(directory) or self._lost(handle, directory)

    def read_log(self, handle: Handle, offset: int) -> bytes:
        return files.read_log(self.root / handle.attempt_id, offset)

    def read_messages(self, handle: Handle, offset: int) -> tuple[list[Message], int]:
        return files.read_messages(self.root / handle.attempt_id, offset)

    def stop(self, handle: Handle, *, grace: float) -> None:
        files.request_stop(self.root / handle.attempt_id, grace)
        proctree.send(handle.pid, handle.born, signal.SIGTERM)
        # An op can stop its supervisor, which then hears nothing.
        proctree.send(handle.pid, handle.born, signal.SIGCONT)

    def forget(self, handle: Handle) -> None:
        directory = self.root / handle.attempt_id
        is_over = not proctree.is_alive(handle.pid, handle.born)
        if not is_over or files.read_outcome(directory) is None:
            self.stop(handle, grace=0)
            wait_until_gone(handle, seconds=10)
            proctree.kill_remains(handle.pid, handle.born, workspace.marker(str(directory)))
        files.remove(directory)

    def leftovers(self) -> list[Handle]:
        return files.leftovers(self.name, self.root)

    def check(self) -> list[str]:
        return environment.problems(self.root)

    def close(self) -> None:
        self._notifier.close()

    def _tell(self, attempt_id: str) -> None:
        if self.on_news is not None:
            self.on_news(attempt_id)

    def _resume(self, attempt_id: str, directory: Path) -> Handle | None:
        """Return the handle of an attempt launched before, also by a process that then died."""
        if not directory.is_dir():
            return None
        handle = files.read_handle(self.name, attempt_id, directory)
        if handle is None and (directory / workspace.SPEC).exists():
            # Its launcher died right after starting a runner, or right before: start one more.
            # They agree through a lock which of them it is.
            self._spawn(directory)
            handle = self._await_handle(attempt_id, directory)
        return handle

    def _await_handle(self, attempt_id: str, directory: Path) -> Handle:
        # A runner needs some tens of milliseconds; a minute means the machine is beyond hope.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            handle = files.read_handle(self.name, attempt_id, directory)
            if handle is not None:
                return handle
            time.sleep(0.01)
        raise ExecutorFailure("the supervisor does not start", permanent=False)

    def _begin(self, spec: LaunchSpec, directory: Path) -> Handle:
        shutil.rmtree(directory, ignore_errors=True)  # half made by a launcher that died
        files.make_directory(directory, spec.inputs_json)
        env = environment.for_op(spec, directory, self.options)
        order = {
            "command": list(spec.command or ()),
            "env": env,
            "timeout_s": spec.timeout_s,
            "grace_s": spec.grace_s,
            "limits": environment.limits(spec, self.options),
        }
        files.write_whole(directory / workspace.SPEC, json.dumps(order).encode())
        pid = self._spawn(directory)
        born = proctree.born(pid) or ""
        # The runner writes the same; here it is for a second launch that comes before that. The op may have begun, and
        # removed the directory.
        with contextlib.suppress(FileNotFoundError):
            files.write_whole(
                directory / workspace.HANDLE, json.dumps({"pid": pid, "born": born}).encode()
            )
        return Handle(self.name, spec.attempt_id, pid, born)

    def _spawn(self, directory: Path) -> int:
        devnull = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        arguments = [sys.executable, "-I", "-S", "-c", _BOOT, _PROJECT, str(directory.absolute())]
        # Signals wait, blocked, until the runner can heed them: a stop right now must not be lost.
        return os.posix_spawn(
            sys.executable,
            arguments,
            {"PATH": os.environ.get("PATH", os.defpath)},
            file_actions=devnull,
            setsid=True,
            setsigmask=_BLOCKED,
            setsigdef=(*_BLOCKED, signal.SIGPIPE),
        )

    def _lost(self, handle: Handle, directory: Path) -> Outcome:
        """Clean up after a runner that was killed, and settle the outcome."""
        with self._lock:
            settled = files.read_outcome(directory)
            if settled is not None:
                return settled
            absolute = str(directory.absolute())
            proctree.kill_remains(handle.pid, handle.born, workspace.marker(absolute))
            outcome = Outcome(error=outcomes.LOST, lost=True)
            with contextlib.suppress(OSError):
                files.write_outcome(directory, outcome)
            return outcome


def wait_until_gone(handle: Handle, *, seconds: float) -> None:
    """Wait for a supervisor that was told to end, and end it by force if it doesn't."""
    fd = proctree.open_process(handle.pid, handle.born)
    if fd is None:
        return
    try:
        gone = _is_readable(fd, seconds)
        if not gone:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            _is_readable(fd, 1)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def _is_readable(fd: int, seconds: float) -> bool:
    poller = select.poll()  # not select(): it can't take descriptors from 1024 on
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
