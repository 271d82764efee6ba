"""What can be relayed: a log that tells things on channels, in one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class Event(Protocol):
    """Something that a log tells those who follow its channel; ids rise."""

    @property
    def channel(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def frame(self) -> bytes: ...


class Page(NamedTuple):
    """What a log tells next, the position behind it, and whether there is more."""

    events: Sequence[Event]
    after: int
    has_more: bool


class Log(Protocol):
    """What a relay reads. It announces `news` when there is more, and `ends` + channel when one may have ended."""

    news: str
    ends: str

    async def read(self, after: int, limit: int, only: Collection[str] | None = None) -> Page:
        """Look at what `limit` events tell after a position, and return those of the channels `only`, or all of them."""

    async def ended(self, channels: Collection[str]) -> Collection[str]:
        """Return those of the channels on which all has been told that ever will be."""


class Listener(Protocol):
    """A stream that follows some channels."""

    channels: frozenset[str]

    def offer(self, event: Event) -> bool:
        """Take an event, or leave it; say whether it was taken."""

    def end(self) -> None:
        """Hear that all has been offered that ever will be."""

    def ring(self) -> None:
        """Look again."""
