"""Hears of attempts that end or say something: one thread, however many attempts."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from typing import TYPE_CHECKING

from apps.runs.executors.supervision import proctree
from apps.runs.executors.supervision.workspace import NEWS_SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Notifier:
    """Calls `tell(attempt_id)` when the attempt's supervisor has died or sent news.

    Death comes through a pidfd, which works for children and strangers alike, so adopted attempts
    are watched like our own; children are reaped on the way. News comes as datagrams to a socket in
    the root directory, which a supervisor finds again after we were restarted.
    """

    def __init__(self, root: Path, tell: Callable[[str], None]) -> None:
        self._root = root
        self._tell = tell
        self._lock = threading.Lock()
        self._watched: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()
        self._news: socket.socket | None = None
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, attempt_id: str, pid: int, birth: str) -> bool:
        """Tell of this attempt from now on; False if its supervisor is gone already."""
        with self._lock:
            if attempt_id in self._watched or self._closed:
                return True
            self._start()
            fd = proctree.open_process(pid, birth)
            if fd is None:
                _reap(os.P_PID, pid)
                return False
            self._watched[attempt_id] = fd
            # epoll takes a new descriptor while another thread waits.
            self._selector.register(fd, selectors.EVENT_READ, attempt_id)
            return True

    def is_watched(self, attempt_id: str) -> bool:
        """Tell whether the supervisor of this attempt is watched, hence alive as far as we know."""
        return attempt_id in self._watched

    def close(self) -> None:
        """End the thread; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        os.write(self._wake_writer, b"x")
        if thread is not None:
            thread.join()
        for fd in self._watched.values():
            os.close(fd)
        self._watched.clear()
        self._selector.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)
        if self._news is not None:
            self._news.close()

    def _start(self) -> None:
        if self._thread is not None:
            return
        self._news = self._bind()
        self._selector.register(self._news, selectors.EVENT_READ, None)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="gyoza-notifier", daemon=True)
        self._thread.start()

    def _bind(self) -> socket.socket:
        self._root.mkdir(parents=True, exist_ok=True)
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            news.setblocking(False)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(NEWS_SOCKET, dir_fd=root)
            news.bind(f"/proc/self/fd/{root}/{NEWS_SOCKET}")
            return news
        finally:
            os.close(root)

    def _run(self) -> None:
        while not self._closed:
            told: set[str] = set()
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._end(key.data, key.fd)
                    told.add(key.data)
                elif self._news is not None and key.fileobj is self._news:
                    told.update(self._receive(self._news))
            for attempt_id in told:
                self._tell(attempt_id)

    def _end(self, attempt_id: str, fd: int) -> None:
        with self._lock:
            self._selector.unregister(fd)
            _reap(os.P_PIDFD, fd)
            del self._watched[attempt_id]
            os.close(fd)

    def _receive(self, news: socket.socket) -> set[str]:
        heard = set()
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):
                heard.add(news.recv(256).decode("ascii", "replace"))
        return heard


def _reap(kind: int, number: int) -> None:
    # An adopted supervisor is someone else's child: nothing to reap then.
    with contextlib.suppress(ChildProcessError):
        if number > 0:
            os.waitid(kind, number, os.WEXITED | os.WNOHANG)
