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

from apps.runs.executors.supervision import proctree, runner
from apps.runs.executors.supervision.attempts import NEVER, Attempt, never_began
from apps.runs.executors.supervision.children import end_orphans, fork
from apps.runs.executors.supervision.directories import Directories
from apps.runs.executors.supervision.frames import (
    DIRTY,
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from apps.runs.executors.supervision.children import Child
    from apps.runs.executors.supervision.output import Capture

_CHUNK = 1 << 18
_NEWS_GAP = 0.02


class Nursery:
    def __init__(self, sock: socket.socket, root: str, options: dict[str, Any]) -> None:
        self.root = root
        self.directories = Directories(root)
        self.options = options
        self.max_children: int = options["max_children"]
        self.link: Channel | None = Channel(sock)
        self.outgoing: list[bytes] = []
        self.attempts: dict[bytes, Attempt] = {}
        self.queue: deque[Attempt] = deque()
        self.outcomes: dict[bytes, bytes] = {}
        self.children: dict[int, Child] = {}
        self.idle: list[Child] = []
        self.news: set[bytes] = set()
        self.next_news = NEVER
        self.next_deadline = NEVER
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
            child.drop_directory()

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
                attempt = Attempt(frame)
                self.attempts[attempt.id] = attempt
                self.queue.append(attempt)
            elif frame.kind == FORGET:
                self.outcomes.pop(frame.attempt_id, None)
            elif frame.kind == STOP:
                self._stop(frame.attempt_id, frame.time)
        self._hand_out()

    def _flush(self) -> None:
        if self.next_news != NEVER and time.monotonic() >= self.next_news:
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
        self.directories.begin_to_tell()
        for child in list(self.idle):
            self._retire(child)
        for attempt_id in self.attempts:
            self.directories.save_handle(attempt_id)
        for attempt_id, outcome in self.outcomes.items():
            self.directories.save_outcome(attempt_id, outcome)

    def _send_news(self) -> None:
        for attempt_id in self.news:
            if self.link is None:
                self.directories.announce(attempt_id)
                continue
            self.outgoing.append(encode(Frame(NEWS, attempt_id)))
        self.news.clear()
        self.next_news = NEVER

    # --- attempts

    def _hand_out(self) -> None:
        while self.queue:
            attempt = self.queue[0]
            child = self._child_for(attempt.frame.number)
            if child is None:
                return
            self.queue.popleft()
            self._give(child, attempt)

    def _give(self, child: Child, attempt: Attempt) -> None:
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
            self._answer(attempt, never_began("stopped before it started", stopped=True), kept=0)
            return
        self._watch_the_clock()  # if it was stopped for a while, the timeout came first
        attempt.stopped = attempt.stopped or not attempt.timed_out
        self._end_within(attempt, grace)

    def _end_within(self, attempt: Attempt, grace: float) -> None:
        again = attempt.kill_at != NEVER
        attempt.timeout_at = NEVER
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
            default=NEVER,
        )

    def _patience(self) -> float:
        soonest = min(self.next_deadline, self.next_news)
        if soonest == NEVER:
            return -1
        # epoll_wait(2) takes milliseconds as an int: after 24 days it would refuse.
        return min(max(0.0, soonest - time.monotonic()), runner.LONGEST_SLEEP)

    def _answer(self, attempt: Attempt, outcome: bytes, *, kept: int) -> None:
        attempt.close()
        del self.attempts[attempt.id]
        self.news.discard(attempt.id)
        if self.link is None:
            self.directories.save_outcome(attempt.id, outcome)
            return
        self.outcomes[attempt.id] = outcome
        self.outgoing.append(encode(Frame(OUTCOME, attempt.id, outcome, number=kept)))

    # --- children

    def _child_for(self, gpu: int) -> Child | None:
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
                self._answer(attempt, never_began(f"can't start a child: {exc}", lost=True), kept=0)
            return None

    def _fork(self, gpu: int) -> Child:
        child = fork(gpu, root=self.root, options=self.options)
        self.children[child.pid] = child
        self._watch(child.channel.fd, lambda mask: self._on_child(child, mask))
        self._watch(child.pidfd, lambda _: self._reap())
        self._watch(child.out, lambda _: self._on_pipe(child, child.out))
        self._watch(child.err, lambda _: self._on_pipe(child, child.err))
        return child

    def _on_child(self, child: Child, mask: int) -> None:
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
            if attempt is not None and attempt.is_answered_by(frame):
                self._on_done(child, attempt, frame)
            else:
                # An op has written to our socket, or changed the library that writes for us.
                if attempt is not None:
                    attempt.is_garbled = True
                proctree.kill_tree(child.pid)
                return

    def _on_done(self, child: Child, attempt: Attempt, frame: Frame) -> None:
        self._drain(child)
        if frame.number & SPENT or attempt.kill_at != NEVER:
            # The answer waits for the end of what the op may have left behind.
            child.reply = frame
            proctree.kill_tree(child.pid)
            return
        child.attempt = None
        kept = 1 if frame.number & DIRTY or attempt.files else 0
        if not kept:
            child.directory = self.directories.path(attempt.id)
        self._answer(attempt, attempt.outcome(frame), kept=kept)
        alone = self.link is None and not self.queue
        if alone or child.runs >= self.options["max_runs_per_child"]:
            self._retire(child)
        else:
            self._rest(child)
        if self.queue:
            self._hand_out()

    def _rest(self, child: Child) -> None:
        child.idle_since = time.monotonic()
        self.idle.append(child)
        self.next_deadline = min(self.next_deadline, child.idle_since + self.options["idle_s"])

    def _retire(self, child: Child) -> None:
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

    def _on_death(self, child: Child, code: int) -> None:
        if child in self.idle:
            self.idle.remove(child)
        end_orphans(self.children)
        self._drain(child)
        attempt = child.attempt
        # A child may answer and die at once; the answer counts.
        if attempt is not None and child.reply is None and child.channel.fd in self.handlers:
            for frame in child.channel.receive() or ():
                if attempt.is_answered_by(frame):
                    child.reply = frame
        for fd in (child.channel.fd, child.pidfd, child.out, child.err):
            self._unwatch(fd)
        child.close()
        if attempt is not None:
            if child.reply is not None:
                outcome = attempt.outcome(child.reply)
            else:
                outcome = attempt.crashed(code)
            self._answer(attempt, outcome, kept=1)
        child.drop_directory()
        self._hand_out()

    # --- output

    def _on_pipe(self, child: Child, fd: int) -> None:
        if not self._read(child, fd):
            self._unwatch(fd)
            child.close_pipe(fd)

    def _read(self, child: Child, fd: int) -> bool:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        attempt = child.attempt
        if chunk and attempt is not None:
            capture = attempt.capture or self._capture(attempt)
            (capture.stdout if fd == child.out else capture.stderr)(chunk)
        return bool(chunk)

    def _drain(self, child: Child) -> None:
        # What was written before the child answered, or died, is in the pipes by now.
        while ready := child.pipes.poll(0):
            for fd, _ in ready:
                self._on_pipe(child, fd)

    def _capture(self, attempt: Attempt) -> Capture:
        at = -1
        # A full disk: the files say nothing, the op goes on.
        with contextlib.suppress(OSError):
            at = self.directories.open(attempt.id)

        def tell() -> None:
            if not self.news:
                self.next_news = time.monotonic() + _NEWS_GAP
            self.news.add(attempt.id)

        return attempt.begin_capture(at, tell)

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
            grace = self.directories.read_grace(attempt_id)
            if grace is not None:
                self._stop(attempt_id, grace)


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
