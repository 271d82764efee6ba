"""The threads that store files, and who waits for one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Each needs a connection to Postgres (GYOZA_DB_POOL).
_THREADS = 4
# More of them for what takes long.
_LONG_THREADS = 2


class Pool:
    """Threads that attempts take turns in, in the order in which they asked for one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gyoza-pickup")
        self._long_threads = ThreadPoolExecutor(_LONG_THREADS, thread_name_prefix="gyoza-pickup")
        self._lock = threading.Lock()
        self._waiting = 0

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a short turn: whoever has had one for long leaves it and asks again."""
        return self._waiting > 0

    def submit(self, turn: Callable[[], None], *, is_long: bool) -> None:
        """Have a thread take a turn; one that takes long keeps none waiting but others of its kind."""
        if is_long:
            self._long_threads.submit(turn)
            return
        with self._lock:
            self._waiting += 1
        self._threads.submit(self._take, turn)

    def close(self) -> None:
        """End the threads when all have had their turn."""
        self._threads.shutdown()
        self._long_threads.shutdown()

    def _take(self, turn: Callable[[], None]) -> None:
        with self._lock:
            self._waiting -= 1
        turn()
