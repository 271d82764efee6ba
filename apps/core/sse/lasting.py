"""What every answer that stays open has in common, be it a stream or a socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID


class Lasting:
    """An answer that stays open, and gives back what was taken for it however it ends."""

    def __init__(self, *, charged_to: UUID | None = None) -> None:
        # The key that the connection counts for, where it isn't the caller's.
        self.charged_to = charged_to
        self._releases: list[Callable[[], None]] = []
        self._told_to_end: asyncio.Future[None] | None = None
        self._must_end = False

    def told_to_end(self) -> asyncio.Future[None]:
        """Return what is done as soon as the answer has to end, whatever else there is to send."""
        self._told_to_end = asyncio.get_running_loop().create_future()
        if self._must_end:
            self._told_to_end.set_result(None)
        return self._told_to_end

    def end(self) -> None:
        """End the answer; from any thread."""
        self._must_end = True
        told = self._told_to_end
        if told is not None and not told.get_loop().is_closed():
            told.get_loop().call_soon_threadsafe(_tell, told)

    def on_release(self, release: Callable[[], None]) -> None:
        """Have something given back when the answer has ended."""
        self._releases.append(release)

    def release(self) -> None:
        """Give everything back; once."""
        while self._releases:
            self._releases.pop()()

    def close(self) -> None:
        """Give up an answer that was never sent."""
        self.release()


def _tell(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
