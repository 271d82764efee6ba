"""What is found together becomes objects in one transaction."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from apps.runs.pickup.files import Stamp
    from apps.storage.services import Content, NewObject

# So many files, and so many bytes unless one alone has more.
_MOST_FILES, _MOST_BYTES = 100, 4 * 1024 * 1024


class File(NamedTuple):
    """A file that is to be an object, as it was read."""

    path: str
    stamp: Stamp
    new: NewObject
    content: Content


class Batch(ExitStack):
    """Files that become objects together; holds their contents until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[File] = []
        self._bytes = 0

    def has_room_for(self, length: int) -> bool:
        return len(self.files) < _MOST_FILES and self._bytes + length <= _MOST_BYTES

    def add(self, file: File, lent: ExitStack) -> None:
        self.push(lent)
        self.files.append(file)
        self._bytes += file.content.length

    def close(self) -> None:
        super().close()
        self.files.clear()
        self._bytes = 0
