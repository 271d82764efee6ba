"""Keeps the warm children of one python executor, and outlives it until their work is done.

One thread, one epoll. The executor sends attempts over a socket; the nursery hands each to an idle
child, pumps what the child writes, keeps timeouts and stop requests, and answers with outcomes. It
holds an outcome until the executor forgets it. When the executor's process dies, the nursery saves
what it holds to the attempts' directories, lets the children finish, saves that too, and ends.

Every child is a subreaper of its own, so what a child's op starts stays below that child; only when
a child is dead do its orphans come to the nursery, which knows them for that and kills them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque

from apps.runs.executors.supervision import outcomes, proctree, runner, warm_child, workspace
from apps.runs.executors.supervision.frames import (
    DIRTY,
    DONE,
    FORGET,
    LAUNCH,
    NEWS,
    OUTCOME,
    RUN,
    SPENT,
    STOP,
    Channel,
    Frame,
    encode,
)
from apps.runs.executors.supervision.output import Capture
from apps.runs.executors.supervision.workspace import AppendFile, News

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

_CHUNK = 1 << 18
# Outputs have a limit of 1 MiB and error messages one of 16 KiB, escaped characters included.
_LONGEST_ANSWER = 4 << 20
_NEWS_GAP = 0.02
_NEVER = float("inf")


class _Attempt:
    """An attempt the nursery was given and has not answered yet."""

    __slots__ = (
        "at", "began", "capture", "child", "ends_at", "files", "frame", "grace", "id",
        "is_garbled", "kill_at", "stopped", "timed_out", "timeout_at",
    )  # fmt: skip

    def __init__(self, frame: Frame) -> None:
        self.id = frame.attempt_id
        self.frame = frame
        self.grace = frame.grace
        self.child: _Child | None = None
        self.began = 0.0
        self.timeout_at = _NEVER
        self.kill_at = _NEVER
        self.stopped = self.timed_out = False
        self.is_garbled = False  # its child gave an answer that makes no sense
        self.at = -1
        self.capture: Capture | None = None
        self.files: tuple[AppendFile, ...] = ()


class _Child:
    """A warm child and our ends of its pipes."""

    def __init__(self, pid: int, sock: socket.socket, out: int, err: int, gpu: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.channel = Channel(sock, longest_frame=_LONGEST_ANSWER)
        self.out = out
        self.err = err
        self.gpu = gpu
        self.attempt: _Attempt | None = None
        self.reply: Frame | None = None  # held back until the child and what it left are gone
        self.directory = ""  # clean, to be renamed for the next attempt
        self.runs = 0
        self.idle_since = 0.0
        self.pipes = select.poll()
        for fd in (out, err):
            os.set_blocking(fd, False)
            self.pipes.register(fd, select.POLLIN)

    def close(self) -> None:
        self.channel.socket.close()
        for fd in (self.pidfd, self.out, self.err):
            if fd >= 0:
                os.close(fd)


class Nursery:
    def __init__(self, sock: socket.socket, root: str, options: dict[str, Any]) -> None:
        self.root = root
        self.options = options
        self.max_children: int = options["max_children"]
        self.link: Channel | None = Channel(sock)
        self.outgoing: list[bytes] = []
        self.attempts: dict[bytes, _Attempt] = {}
        self.queue: deque[_Attempt] = deque()
        self.outcomes: dict[bytes, bytes] = {}
        self.children: dict[int, _Child] = {}
        self.idle: list[_Child] = []
        self.news: set[bytes] = set()
        self.next_news = _NEVER
        self.next_deadline = _NEVER
        self.root_fd = -1
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.wake_reader, self.wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def serve(self) -> None:
        """Work until the executor is gone and nothing is left to do."""
        proctree.become_subreaper()
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _note)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        gc.freeze()
        self._watch(self.wake_reader, self._on_signal)
        if self.link is not None:
            self._watch(self.link.fd, self._on_link)
        while self.link is not None or self.attempts:
            for fd, mask in self.epoll.poll(self._patience()):
                # An earlier event of this round may have closed the descriptor.
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(mask)
            if self.next_deadline <= time.monotonic():
                self._watch_the_clock()
            self._flush()
        for child in list(self.children.values()):
            proctree.kill_tree(child.pid)
            os.waitpid(child.pid, 0)
            self._drop_directory(child)

    # --- the executor's side

    def _on_link(self, mask: int) -> None:
        if self.link is None:
            return
        received = self.link.receive() if mask & ~select.EPOLLOUT else []
        if received is None:
            self._go_on_alone()
            return
        for frame in received:
            if frame.kind == LAUNCH:
                attempt = _Attempt(frame)
                self.attempts[attempt.id] = attempt
                self.queue.append(attempt)
            elif frame.kind == FORGET:
                self.outcomes.pop(frame.attempt_id, None)
            elif frame.kind == STOP:
                self._stop(frame.attempt_id, frame.time)
        self._hand_out()

    def _flush(self) -> None:
        if self.next_news != _NEVER and time.monotonic() >= self.next_news:
            self._send_news()
        if self.link is None:
            self.outgoing.clear()
            return
        if not self.outgoing and not self.link.unsent:
            return
        data = b"".join(self.outgoing)
        self.outgoing.clear()
        waited = bool(self.link.unsent)
        try:
            done = self.link.send(data)
        except OSError:
            # The executor is dead, but what it sent before must still be read: its end of file
            # follows that, and is what tells us.
            self.link.unsent = b""
            self.epoll.modify(self.link.fd, select.EPOLLIN)
            return
        if done == waited:  # changed from nothing unsent to something, or back
            events = select.EPOLLIN if done else select.EPOLLIN | select.EPOLLOUT
            self.epoll.modify(self.link.fd, events)

    def _go_on_alone(self) -> None:
        """Save everything a later executor needs, then carry on without this one."""
        if self.link is None:
            return
        self._unwatch(self.link.fd)
        self.link.socket.close()
        self.link = None
        self.root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for child in list(self.idle):
            self._retire(child)
        handle = {"pid": os.getpid(), "born": proctree.born(os.getpid())}
        for attempt_id in self.attempts:
            # Where it can't be written, the attempt is lost with its executor; the others are not.
            with contextlib.suppress(OSError), self._opened(attempt_id) as at:
                workspace.write_whole(workspace.HANDLE, json.dumps(handle).encode(), at=at)
        for attempt_id, outcome in self.outcomes.items():
            self._save(attempt_id, outcome)

    def _save(self, attempt_id: bytes, outcome: bytes) -> None:
        with contextlib.suppress(OSError), self._opened(attempt_id) as at:
            workspace.save_outcome(outcome, at=at)
        self._announce(attempt_id)

    def _announce(self, attempt_id: bytes) -> None:
        """Tell a later executor, should there be one."""
        with contextlib.suppress(OSError):
            news = News(self.root_fd, attempt_id.decode())
            news.send()
            news.close()

    @contextlib.contextmanager
    def _opened(self, attempt_id: bytes) -> Iterator[int]:
        at = self._directory(attempt_id)
        try:
            yield at
        finally:
            os.close(at)

    def _directory(self, attempt_id: bytes) -> int:
        return workspace.reopen(f"{self.root}/{attempt_id.decode()}")

    def _send_news(self) -> None:
        for attempt_id in self.news:
            if self.link is None:
                self._announce(attempt_id)
                continue
            self.outgoing.append(encode(Frame(NEWS, attempt_id)))
        self.news.clear()
        self.next_news = _NEVER

    # --- attempts

    def _hand_out(self) -> None:
        while self.queue:
            attempt = self.queue[0]
            child = self._child_for(attempt.frame.number)
            if child is None:
                return
            self.queue.popleft()
            self._give(child, attempt)

    def _give(self, child: _Child, attempt: _Attempt) -> None:
        frame = attempt.frame
        attempt.child = child
        attempt.began = time.monotonic()
        if frame.time >= 0:
            attempt.timeout_at = attempt.began + frame.time
            self.next_deadline = min(self.next_deadline, attempt.timeout_at)
        attempt.frame = frame._replace(meta=b"", body=b"")
        child.attempt = attempt
        child.runs += 1
        reuse = 1 if child.directory else 0
        child.directory = ""
        data = encode(Frame(RUN, frame.attempt_id, frame.meta, frame.body, 0.0, 0.0, reuse))
        try:
            if not child.channel.send(data):
                self.epoll.modify(child.channel.fd, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            return  # it has just died; its pidfd says so next

    def _stop(self, attempt_id: bytes, grace: float) -> None:
        attempt = self.attempts.get(attempt_id)
        if attempt is None:
            return
        if attempt.child is None:
            self.queue.remove(attempt)
            status = {"started": False, "stopped": True, "error": "stopped before it started"}
            self._answer(attempt, json.dumps(status).encode(), kept=0)
            return
        self._watch_the_clock()  # if it was stopped for a while, the timeout came first
        attempt.stopped = attempt.stopped or not attempt.timed_out
        self._end_within(attempt, grace)

    def _end_within(self, attempt: _Attempt, grace: float) -> None:
        again = attempt.kill_at != _NEVER
        attempt.timeout_at = _NEVER
        attempt.kill_at = min(attempt.kill_at, time.monotonic() + grace)
        self.next_deadline = min(self.next_deadline, attempt.kill_at)
        if again or attempt.child is None:
            return
        for number in (signal.SIGTERM, signal.SIGCONT):  # CONT: a stopped op must hear it too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(attempt.child.pid, number)

    def _watch_the_clock(self) -> None:
        now = time.monotonic()
        for attempt in list(self.attempts.values()):
            if attempt.timeout_at <= now:
                attempt.timed_out = True
                self._end_within(attempt, attempt.grace)
            if attempt.kill_at <= now and attempt.child is not None:
                attempt.kill_at = now + 1  # and again, should something have slipped through
                proctree.kill_tree(attempt.child.pid)
        for child in [c for c in self.idle if c.idle_since + self.options["idle_s"] <= now]:
            self._retire(child)
        self.next_deadline = min(
            [min(a.timeout_at, a.kill_at) for a in self.attempts.values()]
            + [c.idle_since + self.options["idle_s"] for c in self.idle],
            default=_NEVER,
        )

    def _patience(self) -> float:
        soonest = min(self.next_deadline, self.next_news)
        if soonest == _NEVER:
            return -1
        # epoll_wait(2) takes milliseconds as an int: after 24 days it would refuse.
        return min(max(0.0, soonest - time.monotonic()), runner.LONGEST_SLEEP)

    def _answer(self, attempt: _Attempt, outcome: bytes, *, kept: int) -> None:
        for file in attempt.files:
            file.close()
        if attempt.at >= 0:
            os.close(attempt.at)
        del self.attempts[attempt.id]
        self.news.discard(attempt.id)
        if self.link is None:
            self._save(attempt.id, outcome)
            return
        self.outcomes[attempt.id] = outcome
        self.outgoing.append(encode(Frame(OUTCOME, attempt.id, outcome, number=kept)))

    # --- children

    def _child_for(self, gpu: int) -> _Child | None:
        """Return an idle child, or a new one if there may be more; None if all are busy.

        A child stays with the GPU it first had: libraries bind to a device for good.
        """
        for index in range(len(self.idle) - 1, -1, -1):
            if self.idle[index].gpu == gpu:
                return self.idle.pop(index)
        if len(self.children) >= self.max_children:
            if self.idle:
                self._retire(self.idle[0])  # its end makes room
            return None
        try:
            return self._fork(gpu)
        except OSError as exc:
            if not self.children:
                attempt = self.queue.popleft()
                error = f"can't start a child: {exc}"
                status = {"started": False, "lost": True, "error": error}
                self._answer(attempt, json.dumps(status).encode(), kept=0)
            return None

    def _fork(self, gpu: int) -> _Child:
        ours, theirs = socket.socketpair()
        out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
        err_reader, err_writer = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            for sock in (ours, theirs):
                sock.close()
            for fd in (out_reader, out_writer, err_reader, err_writer):
                os.close(fd)
            raise
        if pid == 0:
            signal.set_wakeup_fd(-1)
            warm_child.become(
                theirs, out_writer, err_writer, root=self.root, parent=parent, options=self.options
            )
        theirs.close()
        os.close(out_writer)
        os.close(err_writer)
        # Both sides set the group, so that it exists whoever comes first.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        child = _Child(pid, ours, out_reader, err_reader, gpu)
        self.children[pid] = child
        self._watch(child.channel.fd, lambda mask: self._on_child(child, mask))
        self._watch(child.pidfd, lambda _: self._reap())
        self._watch(child.out, lambda _: self._on_pipe(child, child.out))
        self._watch(child.err, lambda _: self._on_pipe(child, child.err))
        return child

    def _on_child(self, child: _Child, mask: int) -> None:
        if mask & select.EPOLLOUT:
            with contextlib.suppress(OSError):
                if child.channel.send(b""):
                    self.epoll.modify(child.channel.fd, select.EPOLLIN)
        received = child.channel.receive()
        if received is None:
            # Hung up but maybe not dead: an op can close any descriptor. It can't answer now.
            self._unwatch(child.channel.fd)
            proctree.kill_tree(child.pid)
            return
        for frame in received:
            attempt = child.attempt
            if attempt is not None and _is_answer(frame, attempt):
                self._on_done(child, attempt, frame)
            else:
                # An op has written to our socket, or changed the library that writes for us.
                if attempt is not None:
                    attempt.is_garbled = True
                proctree.kill_tree(child.pid)
                return

    def _on_done(self, child: _Child, attempt: _Attempt, frame: Frame) -> None:
        self._drain(child)
        if frame.number & SPENT or attempt.kill_at != _NEVER:
            # The answer waits for the end of what the op may have left behind.
            child.reply = frame
            proctree.kill_tree(child.pid)
            return
        child.attempt = None
        kept = 1 if frame.number & DIRTY or attempt.files else 0
        if not kept:
            child.directory = f"{self.root}/{attempt.id.decode()}"
        self._answer(attempt, self._outcome(attempt, frame), kept=kept)
        alone = self.link is None and not self.queue
        if alone or child.runs >= self.options["max_runs_per_child"]:
            self._retire(child)
        else:
            self._rest(child)
        if self.queue:
            self._hand_out()

    def _rest(self, child: _Child) -> None:
        child.idle_since = time.monotonic()
        self.idle.append(child)
        self.next_deadline = min(self.next_deadline, child.idle_since + self.options["idle_s"])

    def _retire(self, child: _Child) -> None:
        if child in self.idle:
            self.idle.remove(child)
        self._unwatch(child.channel.fd)
        with contextlib.suppress(OSError):
            child.channel.socket.shutdown(socket.SHUT_RDWR)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child is not None:
                self._on_death(child, os.waitstatus_to_exitcode(status))

    def _on_death(self, child: _Child, code: int) -> None:
        if child in self.idle:
            self.idle.remove(child)
        self._end_orphans()
        self._drain(child)
        attempt = child.attempt
        # A child may answer and die at once; the answer counts.
        if attempt is not None and child.reply is None and child.channel.fd in self.handlers:
            for frame in child.channel.receive() or ():
                if _is_answer(frame, attempt):
                    child.reply = frame
        for fd in (child.channel.fd, child.pidfd, child.out, child.err):
            self._unwatch(fd)
        child.close()
        if attempt is not None:
            if child.reply is not None:
                outcome = self._outcome(attempt, child.reply)
            else:
                outcome = self._crash(attempt, code)
            self._answer(attempt, outcome, kept=1)
        self._drop_directory(child)
        self._hand_out()

    def _end_orphans(self) -> None:
        """Kill what a dead child has left: whatever below us does not belong to a live child."""
        mine = os.getpid()
        for _ in range(500):  # a second: longer only if stuck in the kernel
            kin = set(proctree.children(mine)) - self.children.keys()
            if not kin:
                return
            proctree.kill_below(mine, spare=self.children)
            for pid in kin:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.002)

    def _drop_directory(self, child: _Child) -> None:
        if child.directory:
            warm_child.remove_directory(child.directory)
            child.directory = ""

    # --- output

    def _on_pipe(self, child: _Child, fd: int) -> None:
        if not self._read(child, fd):
            self._unwatch(fd)
            child.pipes.unregister(fd)
            os.close(fd)
            if fd == child.out:
                child.out = -1
            else:
                child.err = -1

    def _read(self, child: _Child, fd: int) -> bool:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        attempt = child.attempt
        if chunk and attempt is not None:
            capture = attempt.capture or self._capture(attempt)
            (capture.stdout if fd == child.out else capture.stderr)(chunk)
        return bool(chunk)

    def _drain(self, child: _Child) -> None:
        # What was written before the child answered, or died, is in the pipes by now.
        while ready := child.pipes.poll(0):
            for fd, _ in ready:
                self._on_pipe(child, fd)

    def _capture(self, attempt: _Attempt) -> Capture:
        # A full disk: the files say nothing, the op goes on.
        with contextlib.suppress(OSError):
            attempt.at = self._directory(attempt.id)
        log = AppendFile(workspace.LOG, attempt.at)
        messages = AppendFile(workspace.MESSAGES, attempt.at)
        attempt.files = (log, messages)

        def noted(write: Callable[[bytes], None]) -> Callable[[bytes], None]:
            def write_and_tell(data: bytes) -> None:
                write(data)
                if not self.news:
                    self.next_news = time.monotonic() + _NEWS_GAP
                self.news.add(attempt.id)

            return write_and_tell

        attempt.capture = Capture(noted(log.write), noted(messages.write))
        return attempt.capture

    # --- outcomes

    def _outcome(self, attempt: _Attempt, frame: Frame) -> bytes:
        took = round(frame.time * 1000)
        capture = attempt.capture
        if capture is None and not frame.meta and attempt.kill_at == _NEVER:
            return b'{"exit_code": 0, "outputs": %b, "duration_ms": %d}' % (
                frame.body or b"{}",
                took,
            )
        status: dict[str, Any] = json.loads(frame.meta or b'{"exit_code": 0}')
        if capture is not None:
            capture.close()
        status["duration_ms"] = took
        error = status.get("error", "")
        if status.get("started", True) and not error:
            error = outcomes.describe(
                exit_code=status["exit_code"],
                number=None,
                tail=capture.stderr_tail() if capture else "",
                stopped=attempt.stopped,
                timeout_s=attempt.frame.time if attempt.timed_out else None,
            )
            status["outputs"], problem = _merged(capture, frame.body)
            error = error or problem
        if status.pop("gone", False):
            status["outputs"], error = None, outcomes.removed(error)
        status.update(error=error, stopped=attempt.stopped, timed_out=attempt.timed_out)
        return json.dumps(status).encode()

    def _crash(self, attempt: _Attempt, code: int) -> bytes:
        capture = attempt.capture
        if capture is not None:
            capture.close()
        tail = capture.stderr_tail() if capture else ""
        exit_code, number = (code, None) if code >= 0 else (None, -code)
        if attempt.is_garbled:
            error = "the op has broken the process it runs in: its answer makes no sense"
        elif number is None and not attempt.stopped and not attempt.timed_out:
            error = f"the process ended with exit code {code} before the callable returned"
            error = f"{error}\n{tail}" if tail else error
        else:
            error = outcomes.describe(
                exit_code=exit_code,
                number=number,
                tail=tail,
                stopped=attempt.stopped,
                timeout_s=attempt.frame.time if attempt.timed_out else None,
            )
        outcome = {
            "exit_code": exit_code,
            "signal": number,
            "error": error,
            "stopped": attempt.stopped,
            "timed_out": attempt.timed_out,
            "duration_ms": round((time.monotonic() - attempt.began) * 1000),
        }
        return json.dumps(outcome).encode()

    # --- plumbing

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self.handlers[fd] = handler
        self.epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def _on_signal(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_reader, 4096)
        # Someone who adopted an attempt leaves the wish to stop in its directory.
        for attempt_id in list(self.attempts):
            with contextlib.suppress(OSError):
                at = os.open(f"{self.root}/{attempt_id.decode()}", os.O_RDONLY | os.O_CLOEXEC)
                grace = workspace.read_grace(at=at)
                os.close(at)
                if grace is not None:
                    self._stop(attempt_id, grace)


def _is_answer(frame: Frame, attempt: _Attempt) -> bool:
    """Say whether a frame is an answer that our own code in the child would give to this attempt."""
    if frame.kind != DONE or frame.attempt_id != attempt.id or not 0 <= frame.time < _NEVER:
        return False
    try:
        status = json.loads(frame.meta) if frame.meta else {"exit_code": 0}
        outputs = json.loads(frame.body) if frame.body else {}
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(outputs, dict)
        and isinstance(status, dict)
        and isinstance(status.get("error", ""), str)
        and (isinstance(status.get("exit_code"), int) or bool(status.get("error")))
    )


def _merged(capture: Capture | None, body: bytes) -> tuple[dict[str, Any] | None, str]:
    handed_in = json.loads(body) if body else {}
    if capture is None:
        return handed_in, ""
    if capture.outputs_problem:
        return None, f"outputs {capture.outputs_problem}"
    return outcomes.merge(capture.outputs, handed_in)


def _note(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor carries the news."""


def main(root: str) -> None:
    """Serve the executor at the other end of descriptor 0."""
    # Not an argument: every user of the machine may read those, and ops' variables are in it.
    options = os.environ.pop("GYOZA_NURSERY")
    sock = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    try:
        Nursery(sock, root, json.loads(options)).serve()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
