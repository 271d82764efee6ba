"""The short way out of a stream that waits: whoever has its next frames writes them, and the stream's task sleeps on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Push = Callable[[bytes], bool]

# The ASGI extension that a server may have; its `push` writes a part of an answer at once, or says False.
EXTENSION = "gyoza.push"
# What is longer is cut and sent by the stream's task, which waits for the client between the pieces.
_MOST_BYTES = 64 * 1024


class Outlet:
    """Where the frames of one stream can be written while its task waits for news, and only then."""

    __slots__ = ("_push", "pushed_at")

    def __init__(self) -> None:
        self._push: Push | None = None
        self.pushed_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._push is not None

    def open(self, push: Push) -> None:
        """Have a way to the client."""
        self._push = push

    def push(self, part: bytes) -> bool:
        """Write a part of the answer; say whether that was possible: if not, nothing of it has been."""
        if self._push is None or len(part) > _MOST_BYTES or not self._push(part):
            return False
        self.pushed_at = time.monotonic()
        return True
