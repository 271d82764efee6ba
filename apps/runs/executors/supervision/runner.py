"""Supervises one command from start to outcome, and outlives whoever launched it.

Started by the process executor as its own session, in a bare interpreter. It runs in one thread
and keeps every promise by itself: output is pumped and bounded, the timeout holds, a stop request
is carried out with its grace, and when the outcome appears nothing of the op is alive.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time

from apps.runs.executors.supervision import outcomes, proctree, workspace
from apps.runs.executors.supervision.output import Capture
from apps.runs.executors.supervision.workspace import AppendFile, News

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

_HANDLED = (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP)
_CHUNK = 1 << 18
# A log may grow in many small steps: its listener hears of it at most this often.
_NEWS_GAP = 0.1
# What SIGKILL can't end within this time is stuck in the kernel; the outcome can't wait for it.
_KILL_PATIENCE = 10.0
# Supervisors look at the clock at least this often; what waits for a timeout of months wakes up for nothing once an hour.
LONGEST_SLEEP = 3600.0


def main(directory: str) -> None:
    """Run the op that `directory`/spec.json describes, unless some runner already did."""
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another runner has this attempt
    handle = {"pid": os.getpid(), "born": proctree.born(os.getpid())}
    workspace.write_whole(workspace.HANDLE, json.dumps(handle).encode(), at=at)
    try:
        os.close(os.open("begun", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=at))
    except FileExistsError:
        return  # an earlier runner began and is gone; never start an op twice
    with contextlib.suppress(OSError):
        workspace.reserve(at=at)
    outcome = _Runner(directory, at).run()
    if not workspace.is_at(directory, at):
        outcome.update(outputs=None, error=outcomes.removed(outcome.get("error", "")))
        # Whoever forgets an attempt ends its supervisor first, so somebody still asks.
        at = workspace.reopen(directory)
    try:
        workspace.save_outcome(workspace.encode_outcome(outcome), at=at)
    except OSError:
        # The disk is full, most likely of what the op wrote. It has ended, so its scratch files are of no use.
        import shutil  # costs as much as all other imports of a supervisor together

        for name in (workspace.WORK, workspace.TMP):
            shutil.rmtree(f"{directory}/{name}", ignore_errors=True)
        _save_somehow(outcome, at)


def _save_somehow(outcome: dict[str, Any], at: int) -> None:
    try:
        workspace.save_outcome(workspace.encode_outcome(outcome), at=at)
    except OSError as exc:
        why = f"what the op did can't be stored: {os.strerror(exc.errno or 0)}"
        said = outcome.get("error")
        outcome.update(outputs=None, error=f"{why}\n{said}" if said else why)
        workspace.release(at=at)
        workspace.save_outcome(workspace.encode_outcome(outcome), at=at)


class _Runner:
    def __init__(self, directory: str, at: int) -> None:
        self.directory = directory
        self.at = at
        self.spec: dict[str, Any] = json.loads(workspace.read_small(workspace.SPEC, at=at) or b"")
        root = os.open(os.path.dirname(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.news = News(root, os.path.basename(directory))
        self.log = AppendFile(workspace.LOG, at)
        self.messages = AppendFile(workspace.MESSAGES, at)
        self.capture = Capture(self._write_log, self._write_message)
        self.op = 0
        self.status: int | None = None
        self.began = self.ended = time.monotonic()
        self.timeout_at: float | None = None
        self.kill_at: float | None = None
        self.stopped = self.timed_out = False
        self.news_at: float | None = None
        self.news_sent = 0.0
        self.streams: dict[int, Any] = {}
        self.wake_reader, self.wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> dict[str, Any]:
        """Carry the op through and return its outcome."""
        self._listen_to_signals()
        if workspace.read_grace(at=self.at) is not None:
            return {"started": False, "stopped": True, "error": "stopped before it started"}
        problem = self._start()
        if problem:
            return {"started": False, "error": problem}
        self._pump()
        self._finish_reading()
        return self._outcome()

    # --- starting

    def _listen_to_signals(self) -> None:
        proctree.become_subreaper()
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _note)
        # The launcher blocked these, so that none is lost, or deadly, before this moment.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _start(self) -> str:
        """Start the op; return what went wrong, if anything."""
        out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
        err_reader, err_writer = os.pipe2(os.O_CLOEXEC)
        failed_reader, failed_writer = os.pipe2(os.O_CLOEXEC)
        # Before there is an op: one that stops its supervisor at once would else have all the time in the world.
        self.began = time.monotonic()
        if self.spec["timeout_s"] is not None:
            self.timeout_at = self.began + self.spec["timeout_s"]
        self.op = os.fork()
        if self.op == 0:
            self._become_op(out_writer, err_writer, failed_writer)
        for fd in (out_writer, err_writer, failed_writer):
            os.close(fd)
        # Both sides set the group, so that it exists whoever comes first; afterwards it's denied.
        with contextlib.suppress(OSError):
            os.setpgid(self.op, self.op)
        failure = os.read(failed_reader, 4096)
        os.close(failed_reader)
        if failure:
            os.waitpid(self.op, 0)
            return failure.decode("utf-8", "replace")
        self.streams = {out_reader: self.capture.stdout, err_reader: self.capture.stderr}
        for fd in self.streams:
            os.set_blocking(fd, False)
            with contextlib.suppress(OSError):  # a bigger pipe saves wake-ups; a refusal is fine
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20)
        return ""

    def _become_op(self, out: int, err: int, failed: int) -> NoReturn:
        command = [os.fsencode(part) for part in self.spec["command"]]
        try:
            os.setpgid(0, 0)
            proctree.die_with_parent()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            signal.set_wakeup_fd(-1)
            for number in (*_HANDLED, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            set_limits(self.spec["limits"])
            os.fchdir(os.open(workspace.WORK, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.at))
            os.execvpe(command[0], command, self.spec["env"])
        except BaseException as exc:
            os.write(failed, _why_not_started(exc, self.spec["command"][0]).encode()[:4096])
        finally:
            os._exit(127)

    # --- running

    def _pump(self) -> None:
        poller = select.poll()
        poller.register(self.wake_reader, select.POLLIN)
        for fd in self.streams:
            poller.register(fd, select.POLLIN)
        while not self._is_over():
            for fd, _ in poller.poll(self._patience_ms()):
                if fd == self.wake_reader:
                    self._heed_signals()
                elif not self._read(fd):
                    poller.unregister(fd)
            self._watch_the_clock()

    def _is_over(self) -> bool:
        """Reap what has ended; tell whether nothing of the op is left, making sure once it must."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                break
            if pid == self.op:
                self.status, self.ended = status, time.monotonic()
        if self.status is None:
            return False
        # What the op left behind has no business to go on, unless it is within its grace.
        if self.kill_at is None or time.monotonic() >= self.kill_at:
            self._kill_everything()
            return True
        return False

    def _heed_signals(self) -> None:
        try:
            numbers = os.read(self.wake_reader, 4096)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self._watch_the_clock()  # if it was stopped for a while, the timeout came first
            grace = workspace.read_grace(at=self.at)
            # Whatever ends it from now on, the op was not stopped if it had ended before.
            self.stopped = self.stopped or (self.status is None and not self.timed_out)
            self._end_within(self.spec["grace_s"] if grace is None else grace)

    def _end_within(self, grace: float) -> None:
        kill_at = time.monotonic() + grace
        self.timeout_at = None
        if (
            self.kill_at is not None
        ):  # asked before: a second SIGTERM would cut its cleaning up short
            self.kill_at = min(self.kill_at, kill_at)
            return
        self.kill_at = kill_at
        for number in (signal.SIGTERM, signal.SIGCONT):  # CONT: a stopped op must hear it too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.op, number)

    def _watch_the_clock(self) -> None:
        now = time.monotonic()
        if self.timeout_at is not None and now >= self.timeout_at:
            self.timed_out = self.status is None
            self._end_within(self.spec["grace_s"])
        if self.kill_at is not None and now >= self.kill_at and self.status is None:
            self._kill_everything()
        if self.news_at is not None and now >= self.news_at:
            self.news_sent = now
            self.news_at = None if self.news.send() else now + _NEWS_GAP

    def _patience_ms(self) -> int | None:
        times = [t for t in (self.timeout_at, self.kill_at, self.news_at) if t is not None]
        if not times:
            return None
        # poll(2) takes milliseconds as an int: after 24 days it would refuse.
        return max(0, int(min(min(times) - time.monotonic(), LONGEST_SLEEP) * 1000) + 1)

    def _kill_everything(self) -> None:
        give_up = time.monotonic() + _KILL_PATIENCE
        while time.monotonic() < give_up:
            proctree.kill_below(os.getpid())
            try:
                # Reaping may bring orphans of the dead to us, hence the loop.
                while True:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    if pid == self.op:
                        self.status, self.ended = status, time.monotonic()
            except ChildProcessError:
                return
            # The dying need a moment; keep emptying their pipes meanwhile.
            time.sleep(0.002)
            for fd in list(self.streams):
                self._read(fd)

    # --- output

    def _read(self, fd: int) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if chunk:
            self.streams[fd](chunk)
            return True
        del self.streams[fd]
        os.close(fd)
        return False

    def _finish_reading(self) -> None:
        # Every writer is gone, so what the pipes still hold is all there is.
        for fd, take in self.streams.items():
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(fd, _CHUNK):
                    take(chunk)
        self.capture.close()
        self.log.close()
        self.messages.close()

    def _write_log(self, data: bytes) -> None:
        self.log.write(data)
        self._news_by(self.news_sent + _NEWS_GAP)

    def _write_message(self, data: bytes) -> None:
        self.messages.write(data)
        self._news_by(self.news_sent + _NEWS_GAP / 10)

    def _news_by(self, moment: float) -> None:
        if self.news_at is None or moment < self.news_at:
            self.news_at = moment

    # --- outcome

    def _outcome(self) -> dict[str, Any]:
        if self.status is None:
            return {
                "error": f"process {self.op} could not be killed: it is stuck in the kernel",
                "timed_out": self.timed_out,
                "stopped": self.stopped,
            }
        code = os.waitstatus_to_exitcode(self.status)
        exit_code, number = (code, None) if code >= 0 else (None, -code)
        outputs, problem = outcomes.gather_outputs(self.at, self.capture)
        error = outcomes.describe(
            exit_code=exit_code,
            number=number,
            tail=self.capture.stderr_tail(),
            stopped=self.stopped,
            timeout_s=self.spec["timeout_s"] if self.timed_out else None,
        )
        return {
            "exit_code": exit_code,
            "signal": number,
            "outputs": outputs,
            "error": error or problem,
            "timed_out": self.timed_out,
            "stopped": self.stopped,
            "duration_ms": round((self.ended - self.began) * 1000),
        }


def set_limits(limits: dict[str, int]) -> None:
    """Bound the calling process: no core dumps, open files, memory if wanted, first for the OOM killer."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits["nofile"]
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if "memory" in limits:
        # DATA, not AS: it counts private writable memory, not address space that is only reserved
        # (JVMs, Go, CUDA and sanitizers reserve far more than they use).
        resource.setrlimit(resource.RLIMIT_DATA, (limits["memory"], limits["memory"]))
    with contextlib.suppress(OSError):
        # When memory runs out, an op must go before the worker, Postgres or Redis does.
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"500")
        os.close(fd)


def _why_not_started(exc: BaseException, name: str) -> str:
    if isinstance(exc, FileNotFoundError):
        return f"command not found: {name}"
    if isinstance(exc, PermissionError):
        return f"not executable: {name}"
    if isinstance(exc, OSError) and exc.errno == errno.ENOEXEC:
        return (
            f"not executable: {name} is neither a program nor a script that names its interpreter"
        )
    return f"can't start {name}: {exc}"


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor carries the news."""


if __name__ == "__main__":
    main(sys.argv[1])
