"""The backend that holds the content: Django's storage `gyoza`, with its errors in our terms.

A blob is written once, under a name of its own, and never changed: whoever reads it reads one write to its end.
"""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from django.core.files.storage import storages

from apps.core import ids
from apps.core.errors import OutOfRoom, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.files.base import File
    from django.core.files.storage import Storage

log = logging.getLogger(__name__)

ALIAS = "gyoza"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BlobGone(Exception):
    """The blob has been removed: its object was replaced or deleted meanwhile."""


class Readable(Protocol):
    """What a blob is read from."""

    def read(self, size: int = ..., /) -> bytes: ...
    def close(self) -> None: ...


def backend() -> Storage:
    """Return the backend that the settings name."""
    return storages[ALIAS]


def new_name() -> str:
    """Return a name that no blob has; a few hundred folders hold them all."""
    unique = ids.uuid7().hex
    return f"{unique[-2:]}/{unique}"


def write(name: str, content: File[bytes]) -> None:
    """Store a blob; it is on the disk when this returns. Raises OutOfRoom, Unavailable."""
    with errors_translated():
        content.seek(0)
        taken = backend().save(name, content)
    if taken != name:
        raise AssertionError(f"the backend stored {name} as {taken}")


def open_at(name: str, start: int) -> Readable:
    """Open a blob at an offset. Raises BlobGone, Unavailable."""
    with errors_translated():
        try:
            return _opened(backend(), name, start)
        except FileNotFoundError as exc:
            raise BlobGone from exc


def remove(name: str) -> None:
    """Remove a blob; one that has gone is no error. Raises Unavailable."""
    with errors_translated():
        backend().delete(name)


@contextmanager
def errors_translated() -> Iterator[None]:
    """Raise the backend's errors as ours: OutOfRoom, else Unavailable."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise OutOfRoom("the disk of the storage backend is full") from exc
        log.warning("the storage backend failed: %s", exc)
        raise Unavailable("the storage backend is not available") from exc
    except backend_errors() as exc:
        log.warning("the storage backend failed: %s", exc)
        raise Unavailable("the storage backend is not available") from exc


def backend_errors() -> tuple[type[Exception], ...]:
    """Return what the backend raises, beside OSError, when it is away."""
    found: tuple[type[Exception], ...] = getattr(backend(), "away", ())
    return found


def _opened(storage: Any, name: str, start: int) -> Readable:
    # Those that can begin in the middle say so; Django's interface has no word for it.
    if hasattr(storage, "open_at"):
        opened: Readable = storage.open_at(name, start)
        return opened
    file: Any = storage.open(name, "rb")
    file.seek(start)
    return file  # type: ignore[no-any-return]
