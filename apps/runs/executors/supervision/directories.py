"""The directories of a nursery's attempts, where a later executor finds what it leaves."""

from __future__ import annotations

import contextlib
import json
import os

from apps.runs.executors.supervision import proctree, workspace
from apps.runs.executors.supervision.workspace import News

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Directories:
    def __init__(self, root: str) -> None:
        self._root = root
        self._root_fd = -1

    def path(self, attempt_id: bytes) -> str:
        return f"{self._root}/{attempt_id.decode()}"

    def open(self, attempt_id: bytes) -> int:
        return workspace.reopen(self.path(attempt_id))

    def begin_to_tell(self) -> None:
        """From now on news go to whoever comes later: there is no executor any more."""
        self._root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def announce(self, attempt_id: bytes) -> None:
        """Tell a later executor, should there be one."""
        with contextlib.suppress(OSError):
            news = News(self._root_fd, attempt_id.decode())
            news.send()
            news.close()

    def save_handle(self, attempt_id: bytes) -> None:
        """Say who has the attempt. Where that can't be written, it is lost with its executor; others are not."""
        handle = {"pid": os.getpid(), "born": proctree.born(os.getpid())}
        with contextlib.suppress(OSError), self._opened(attempt_id) as at:
            workspace.write_whole(workspace.HANDLE, json.dumps(handle).encode(), at=at)

    def save_outcome(self, attempt_id: bytes, outcome: bytes) -> None:
        with contextlib.suppress(OSError), self._opened(attempt_id) as at:
            workspace.save_outcome(outcome, at=at)
        self.announce(attempt_id)

    def read_grace(self, attempt_id: bytes) -> float | None:
        """Return within which grace somebody who adopted the attempt wants it stopped, if so."""
        with contextlib.suppress(OSError):
            at = os.open(self.path(attempt_id), os.O_RDONLY | os.O_CLOEXEC)
            grace = workspace.read_grace(at=at)
            os.close(at)
            return grace
        return None

    @contextlib.contextmanager
    def _opened(self, attempt_id: bytes) -> Iterator[int]:
        at = self.open(attempt_id)
        try:
            yield at
        finally:
            os.close(at)
