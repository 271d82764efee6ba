"""Content on its way in: a file of this machine, measured and hashed as it grows, in memory only piece by piece."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.files.base import File

from apps.core.errors import TooLarge
from apps.storage import blobs

if TYPE_CHECKING:
    from types import TracebackType

if TYPE_CHECKING:
    _File = File[bytes]
else:
    _File = File

_PREFIX = "incoming-"
# A file that nobody has written to for so long belongs to a process that has gone.
ABANDONED_SECONDS = 600


class Incoming(_File):
    """A file to be written to, then given to the backend, which may take it away instead of copying it."""

    def __init__(self) -> None:
        self.length = 0
        self._sum = hashlib.sha256()
        with blobs.errors_translated():
            folder = _folder()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, self._path = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        self._raw = os.fdopen(descriptor, "w+b", buffering=0)
        super().__init__(self._raw, name=self._path)

    def add(self, piece: bytes) -> None:
        """Write more. Raises TooLarge, OutOfRoom, Unavailable."""
        self.length += len(piece)
        check_length(self.length)
        self._sum.update(piece)
        view = memoryview(piece)
        with blobs.errors_translated():
            while view:
                view = view[self._raw.write(view) :]

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()

    @property
    def size(self) -> int:
        return self.length

    def temporary_file_path(self) -> str:
        """Return where it is; whoever takes it from there moves it."""
        return self._path

    def close(self) -> None:
        """Close it, and remove it unless the backend has taken it."""
        super().close()
        with suppress(FileNotFoundError):
            Path(self._path).unlink()

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_length(length: int) -> None:
    """Raise TooLarge if no object may have so many bytes."""
    most: int = settings.GYOZA_STORAGE_MAX_OBJECT_BYTES
    if length > most:
        raise TooLarge(f"an object may have {most} bytes")


def begin() -> None:
    """Remove what processes before this one have left on this machine; when one begins to serve."""
    sweep()


def sweep() -> int:
    """Remove files of this machine that a process which has gone was writing; return how many."""
    removed = 0
    for path in _folder().glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                path.unlink()
                removed += 1
    return removed


def _folder() -> Path:
    return Path(settings.GYOZA_STORAGE_INCOMING)
