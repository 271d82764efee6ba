"""What one reader listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from apps.core.sse.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Iterable

# How long a waiter sleeps at most while Redis is away, and how long publishers leave Redis alone after a failure.
BLIND_SECONDS = 1.0


class Switchboard(Protocol):
    """Who tells; `core.sse.hub.Hub` is one."""

    hears: bool

    def add(self, subscription: Subscription) -> None: ...
    def remove(self, subscription: Subscription) -> None: ...


class Subscription:
    """What one reader listens to. News that comes between `subscribe` and `wait` is kept.

    A channel that ends in `*` stands for all that begin like it.
    """

    __slots__ = ("_bell", "_hub", "channels")

    def __init__(self, hub: Switchboard, channels: Iterable[str]) -> None:
        self._hub = hub
        self._bell = Bell()
        self.channels = tuple(channels)

    def __enter__(self) -> Self:
        self._hub.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.remove(self)
        self._bell.close()

    def wake(self, channel: str) -> None:
        """Let `wait` return; from the event loop only."""
        self._bell.ring()

    async def wait(self, timeout: float) -> bool:
        """Wait for news, at most `timeout` seconds; say whether there may be some, and forget it.

        While Redis is away it says so after a second, because news of other processes can't be heard.
        """
        blind = not self._hub.hears
        if await self._bell.wait(min(timeout, BLIND_SECONDS) if blind else timeout):
            return True
        return blind and timeout > BLIND_SECONDS
