"""The python executor: allow-listed callables in warm child processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from apps.core.allowlist import is_allowed
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
from apps.runs.executors.supervision.frames import (
    FORGET,
    LAUNCH,
    OUTCOME,
    READ_SIZE,
    STOP,
    Frame,
    decode,
    encode,
)
from apps.runs.executors.supervision.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROJECT = str(Path(__file__).resolve().parents[3])
# Our package comes from its own place, and sys.path is then what the ops expect.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    "from apps.runs.executors.supervision import nursery; del sys.path[0];"
    "nursery.main(*sys.argv[1:])"
)
_BLOCKED = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A nursery reads all the time; one that takes nothing for so long is frozen.
_SEND_PATIENCE = 30
# Outcomes the nursery may go on holding for us before we mention that we no longer need them.
_FORGET_BATCH = 64


class PythonExecutor(Executor):
    """Runs `package.module:callable` as `fn(inputs: dict) -> dict | None`.

    The children belong to a nursery (`supervision.nursery`), a process that survives this one. An
    attempt that writes nothing costs no file of its own.

    Options:
    `base_dir`: where ops are imported from, before the installed packages (the working directory);
    `max_children`: most attempts at a time, further ones wait (16);
    `idle_s`: an idle child is ended after so long (60);
    `max_runs_per_child`: a child is replaced after so many attempts, against leaks (10000);
    `allowed`: patterns as in `core.allowlist.is_allowed`, checked again before anything is imported;
    `env`, `pass_env`, `nofile`: as in the process executor. Memory isn't limited: children are shared.
    """

    name: ClassVar[str] = "python"

    def __init__(self, root: Path, options: Mapping[str, Any]) -> None:
        super().__init__(root, options)
        self._absolute = str(root.absolute())
        self._lock = threading.RLock()
        self._link: _Link | None = None
        self._launched: dict[str, _Launched] = {}
        self._forgotten: list[bytes] = []
        self._held_back: list[bytes] | None = None
        self._notifier = Notifier(root, self._tell)
        allowed = self.options.get("allowed")
        self._allowed: list[str] | None = None if allowed is None else list(allowed)
        self._checked: set[str] = set()
        self._children = int(self.options.get("max_children", 16))

    def launch(self, spec: LaunchSpec) -> Handle:
        attempt_id = spec.attempt_id
        python = spec.python
        if python is None:
            raise ExecutorFailure("a python op needs package.module:callable", permanent=True)
        if python not in self._checked:
            if self._allowed is not None and not is_allowed(python, self._allowed):
                raise ExecutorFailure(f"not an allowed callable: {python}", permanent=True)
            self._checked.add(python)
        order = {
            "python": python,
            "run_id": spec.run_id,
            "attempt": spec.attempt,
            "env": environment.for_attempt(spec) if spec.env or spec.gpu_id is not None else {},
        }
        frame = Frame(
            LAUNCH,
            checked_attempt_id(attempt_id).encode(),
            json.dumps(order).encode(),
            spec.inputs_json,
            -1.0 if spec.timeout_s is None else spec.timeout_s,
            spec.grace_s,
            -1 if spec.gpu_id is None else spec.gpu_id,
        )
        with self._lock:
            known = self._launched.get(attempt_id) or self._resume(attempt_id)
            if known is not None:
                return known.handle
            link = self._link or self._open_link()
            handle = Handle(self.name, attempt_id, link.pid, link.born)
            self._launched[attempt_id] = _Launched(handle)
            if self._held_back is not None:
                self._held_back.append(encode(frame))
                return handle
            try:
                link.send(*self._forgotten, encode(frame))
            except OSError as exc:
                del self._launched[attempt_id]
                self._cut(link)
                raise ExecutorFailure(f"the nursery is gone: {exc}", permanent=False) from exc
            self._forgotten.clear()
        return handle

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        with self._lock:
            self._held_back = []
            try:
                yield
            finally:
                frames, self._held_back = self._held_back, None
                link = self._link
                if frames and link is not None:
                    try:
                        link.send(*self._forgotten, *frames)
                        self._forgotten.clear()
                    except OSError:
                        self._cut(link)  # settles those just launched as lost

    def is_waiting(self, handle: Handle) -> bool:
        # Children take attempts in the order they were launched, each one at a time.
        ahead = 0
        for attempt_id, known in list(self._launched.items()):
            if attempt_id == handle.attempt_id:
                return known.raw is None and known.outcome is None and ahead >= self._children
            ahead += known.raw is None and known.outcome is None
        return False

    def poll(self, handle: Handle) -> Outcome | None:
        known = self._launched.get(handle.attempt_id)
        if known is None:
            return self._poll_adopted(handle)
        if known.outcome is None and known.raw is not None:
            try:
                known.outcome = files.decode_outcome(known.raw)
            except ValueError as exc:
                known.outcome = Outcome(error=f"how it ended can't be read: {exc}")
        return known.outcome

    def read_log(self, handle: Handle, offset: int) -> bytes:
        if self._has_said_nothing(handle):
            return b""
        return files.read_log(self.root / handle.attempt_id, offset)

    def read_messages(self, handle: Handle, offset: int) -> tuple[list[Message], int]:
        if self._has_said_nothing(handle):
            return [], offset
        return files.read_messages(self.root / handle.attempt_id, offset)

    def stop(self, handle: Handle, *, grace: float) -> None:
        with self._lock:
            known = self._launched.get(handle.attempt_id)
            is_open = known is not None and known.raw is None and known.outcome is None
            if is_open and self._link is not None:
                with contextlib.suppress(OSError):
                    asked = Frame(STOP, handle.attempt_id.encode(), time=max(0.0, grace))
                    self._link.send(encode(asked))
        if known is None:
            files.request_stop(self.root / handle.attempt_id, grace)
            proctree.send(handle.pid, handle.born, signal.SIGUSR1)
        # An op can stop the nursery, which then hears nothing.
        proctree.send(handle.pid, handle.born, signal.SIGCONT)

    def forget(self, handle: Handle) -> None:
        known = self._launched.get(handle.attempt_id)
        if known is None or (known.raw is None and known.outcome is None):
            self._end(handle)
        with self._lock:
            known = self._launched.pop(handle.attempt_id, None)
            if known is not None:
                self._forgotten.append(encode(Frame(FORGET, handle.attempt_id.encode())))
                if len(self._forgotten) >= _FORGET_BATCH:
                    self._mention_forgotten()
        if known is None or known.kept:
            directory = self.root / handle.attempt_id
            if directory.exists():
                files.remove(directory)

    def leftovers(self) -> list[Handle]:
        found = files.leftovers(self.name, self.root)
        return [handle for handle in found if handle.attempt_id not in self._launched]

    def check(self) -> list[str]:
        return environment.problems(self.root)

    def close(self) -> None:
        """Let go; the nursery sees it, lets the children finish, and ends."""
        with self._lock:
            link, self._link = self._link, None
            if link is not None:
                self._launched.clear()
        if link is not None:
            with contextlib.suppress(OSError):
                link.send(*self._forgotten)
            link.hang_up()
        self._notifier.close()

    # --- the nursery

    def _open_link(self) -> _Link:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        base_dir = str(self.options.get("base_dir") or Path.cwd())
        env = environment.base(self.options)
        env["PYTHONPATH"] = f"{env['PYTHONPATH']}:{base_dir}"
        options = {
            "max_children": self._children,
            "idle_s": float(self.options.get("idle_s", 60)),
            "max_runs_per_child": int(self.options.get("max_runs_per_child", 10_000)),
            "allowed": self._allowed,
            "env": env,
            "limits": environment.limits_of(self.options),
        }
        try:
            link = _Link(self._absolute, env, json.dumps(options))
        except OSError as exc:
            raise ExecutorFailure(f"can't start the nursery: {exc}", permanent=False) from exc
        self._link = link
        threading.Thread(
            target=self._listen, args=(link,), name="gyoza-nursery", daemon=True
        ).start()
        return link

    def _listen(self, link: _Link) -> None:
        unread = b""
        while data := link.receive():
            received, unread = decode(unread + data if unread else data)
            for frame in received:
                attempt_id = frame.attempt_id.decode()
                if frame.kind == OUTCOME:
                    known = self._launched.get(attempt_id)
                    if known is None:
                        continue
                    known.kept = frame.number != 0
                    known.raw = frame.meta
                self._tell(attempt_id)
            if self._forgotten:
                with self._lock:
                    self._mention_forgotten()
        self._cut(link)
        link.close()
        link.reap()

    def _mention_forgotten(self) -> None:
        if self._link is not None and self._forgotten:
            with contextlib.suppress(OSError):
                self._link.send(*self._forgotten)
            self._forgotten.clear()

    def _cut(self, link: _Link) -> None:
        """The nursery is gone: settle what it had; the next launch starts another."""
        with self._lock:
            if self._link is not link:
                return
            self._link = None
            self._forgotten.clear()
            link.kill()
            open_ = [a for a, known in self._launched.items() if known.raw is None]
            for attempt_id in open_:
                self._kill_remains(self._launched[attempt_id].handle)
                known = self._launched[attempt_id]
                known.kept = True
                known.outcome = Outcome(error=outcomes.LOST, lost=True)
        for attempt_id in open_:
            self._tell(attempt_id)

    def _has_said_nothing(self, handle: Handle) -> bool:
        """Tell whether it has ended without leaving a file: then there is none to look for."""
        known = self._launched.get(handle.attempt_id)
        return known is not None and known.raw is not None and not known.kept

    def _tell(self, attempt_id: str) -> None:
        if self.on_news is not None:
            self.on_news(attempt_id)

    # --- attempts of an earlier executor

    def _resume(self, attempt_id: str) -> _Launched | None:
        """Return the handle of an attempt that an earlier executor launched before it died."""
        if not os.access(f"{self._absolute}/{attempt_id}", os.F_OK):
            return None
        directory = self.root / attempt_id
        # Its nursery writes the handle, or the outcome, as soon as it sees that its executor is gone.
        deadline = time.monotonic() + 2
        handle = files.read_handle(self.name, attempt_id, directory)
        while (
            handle is None and files.read_outcome(directory) is None and time.monotonic() < deadline
        ):
            time.sleep(0.01)
            handle = files.read_handle(self.name, attempt_id, directory)
        # No handle: the nursery died as well. It may have begun, so it is never begun again.
        return _Launched(handle or Handle(self.name, attempt_id))

    def _poll_adopted(self, handle: Handle) -> Outcome | None:
        directory = self.root / handle.attempt_id
        outcome = files.read_outcome(directory)
        if outcome is not None or self._notifier.is_watched(handle.attempt_id):
            return outcome
        link = self._link
        ours = link is not None and (link.pid, link.born) == (handle.pid, handle.born)
        if not ours and self._notifier.watch(handle.attempt_id, handle.pid, handle.born):
            return None
        # The outcome may have appeared, and its writer gone, since we looked.
        outcome = files.read_outcome(directory)
        if outcome is None:
            self._kill_remains(handle)
            outcome = Outcome(error=outcomes.LOST, lost=True)
            with contextlib.suppress(OSError):
                files.write_outcome(directory, outcome)
        return outcome

    def _kill_remains(self, handle: Handle) -> None:
        directory = (self.root / handle.attempt_id).absolute()
        proctree.kill_remains(handle.pid, handle.born, workspace.marker(str(directory)))

    def _end(self, handle: Handle) -> None:
        """Force a live attempt to its end before it is forgotten."""
        self.stop(handle, grace=0)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.poll(handle) is None:
            time.sleep(0.005)


class _Launched:
    """An attempt the present nursery has, or had and answered."""

    __slots__ = ("handle", "kept", "outcome", "raw")

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.raw: bytes | None = None
        self.outcome: Outcome | None = None
        self.kept = False


class _Link:
    """A nursery process and our end of the socket to it."""

    def __init__(self, root: str, env: dict[str, str], options: str) -> None:
        ours, theirs = socket.socketpair()
        devnull = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-c", _BOOT, _PROJECT, root],
                {**env, "GYOZA_NURSERY": options},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), *devnull],
                setsid=True,
                setsigmask=_BLOCKED,
                setsigdef=(*_BLOCKED, signal.SIGCHLD, signal.SIGPIPE),
            )
        self.born = proctree.born(self.pid) or ""
        self._socket = ours
        ours.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_PATIENCE, 0)
        )

    def send(self, *parts: bytes) -> None:
        self._socket.sendall(b"".join(parts) if len(parts) > 1 else parts[0] if parts else b"")

    def receive(self) -> bytes:
        """Wait for what the nursery says; empty when it is gone."""
        try:
            return self._socket.recv(READ_SIZE)
        except OSError:
            return b""

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Make sure it is dead."""
        proctree.send(self.pid, self.born, signal.SIGKILL)

    def reap(self) -> None:
        """Wait for its end, which may take as long as its last attempt, and leave no zombie."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        self._socket.close()
