"""Warm children as their nursery has them: it forks them, and ends what they leave behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

from apps.runs.executors.supervision import proctree, warm_child
from apps.runs.executors.supervision.frames import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from apps.runs.executors.supervision.attempts import Attempt
    from apps.runs.executors.supervision.frames import Frame

# Outputs have a limit of 1 MiB and error messages one of 16 KiB, escaped characters included.
_LONGEST_ANSWER = 4 << 20


class Child:
    """A warm child and our ends of its pipes."""

    def __init__(self, pid: int, sock: socket.socket, out: int, err: int, gpu: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.channel = Channel(sock, longest_frame=_LONGEST_ANSWER)
        self.out = out
        self.err = err
        self.gpu = gpu
        self.attempt: Attempt | None = None
        self.reply: Frame | None = None  # held back until the child and what it left are gone
        self.directory = ""  # clean, to be renamed for the next attempt
        self.runs = 0
        self.idle_since = 0.0
        self.pipes = select.poll()
        for fd in (out, err):
            os.set_blocking(fd, False)
            self.pipes.register(fd, select.POLLIN)

    def close_pipe(self, fd: int) -> None:
        self.pipes.unregister(fd)
        os.close(fd)
        if fd == self.out:
            self.out = -1
        else:
            self.err = -1

    def drop_directory(self) -> None:
        if self.directory:
            warm_child.remove_directory(self.directory)
            self.directory = ""

    def close(self) -> None:
        self.channel.socket.close()
        for fd in (self.pidfd, self.out, self.err):
            if fd >= 0:
                os.close(fd)


def fork(gpu: int, *, root: str, options: dict[str, Any]) -> Child:
    """Start a warm child. Raises OSError if there can't be another process."""
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
        warm_child.become(theirs, out_writer, err_writer, root=root, parent=parent, options=options)
    theirs.close()
    os.close(out_writer)
    os.close(err_writer)
    # Both sides set the group, so that it exists whoever comes first.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return Child(pid, ours, out_reader, err_reader, gpu)


def end_orphans(children: Collection[int]) -> None:
    """Kill what a dead child has left: whatever below us does not belong to a live child."""
    mine = os.getpid()
    for _ in range(500):  # a second: longer only if stuck in the kernel
        kin = set(proctree.children(mine)) - set(children)
        if not kin:
            return
        proctree.kill_below(mine, spare=children)
        for pid in kin:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)
