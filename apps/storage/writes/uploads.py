"""Content on its way into the backend, before anything says that it is an object."""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from django.core.files.base import ContentFile
from django.db import DatabaseError, transaction

from apps.core import clock, pgarray
from apps.core.errors import OutOfRoom, Unavailable
from apps.core.steps import Statement, carry_out
from apps.storage import blobs, incoming, keys
from apps.storage.writes.wanted import Uploaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.core.errors import GyozaError
    from apps.core.steps import Steps


if TYPE_CHECKING:
    _ContentFile = ContentFile[bytes]
else:
    _ContentFile = ContentFile

log = logging.getLogger(__name__)

# For how long a blob may be on its way into the backend, and how much longer for each MiB.
_PATIENCE = timedelta(minutes=10)
_PATIENCE_PER_MIB = timedelta(seconds=1)


class InMemory(_ContentFile):
    """Content that is small enough to wait in memory. Raises TooLarge."""

    def __init__(self, content: bytes) -> None:
        incoming.check_length(len(content))
        super().__init__(content)
        self.length = len(content)
        self.sha256 = hashlib.sha256(content).hexdigest()


Content = InMemory | incoming.Incoming


def upload(content: Content) -> Uploaded:
    """Bring content into the backend under a name of its own, outside of any transaction.

    Whoever can't attach it discards it; if they don't live to, a sweep does. Raises OutOfRoom, Unavailable.
    """
    uploaded, failure = upload_together([content])
    if failure is not None:
        raise failure
    return uploaded[0]


def upload_together(contents: Sequence[Content]) -> tuple[list[Uploaded], GyozaError | None]:
    """Do as `upload` for several, announced at once, up to the first that the backend does not take; says why it didn't."""
    names = carry_out(announce([content.length for content in contents]))
    uploaded: list[Uploaded] = []
    try:
        for name, content in zip(names, contents, strict=True):
            uploaded.append(bring(name, content))
    except Unavailable as exc:
        # To ask a backend that is away once more would take as long again: a sweep will. Those after it were never there.
        with transaction.atomic():
            carry_out(unlist(names[len(uploaded) + 1 :]))
        return uploaded, exc
    except OutOfRoom as exc:
        discard(*names[len(uploaded) :])
        return uploaded, exc
    except BaseException:
        discard(*names)
        raise
    return uploaded, None


def upload_bytes(content: bytes, *, name: str) -> Uploaded:
    """Do as `upload` for content in memory that is to be an object of this name. Raises Invalid, TooLarge, too."""
    keys.check_name(name)
    return upload(InMemory(content))


def announce(lengths: Sequence[int]) -> Steps[list[str]]:
    """Return a name for each blob to be written; each is listed as one that no object has, and due when it is given up."""
    names = [blobs.new_name() for _ in lengths]
    now = clock.now()
    if names:
        due = [now + _PATIENCE + _PATIENCE_PER_MIB * (length // 2**20) for length in lengths]
        yield Statement(
            "storage/list_blobs",
            {"blobs": pgarray.texts([name.encode() for name in names]), "due": due},
        )
    return names


def bring(blob: str, content: Content) -> Uploaded:
    """Bring content into the backend under a name that was announced. Raises OutOfRoom, Unavailable."""
    blobs.write(blob, content)
    return Uploaded(blob, content.length, content.sha256)


def discard(*names: str) -> bool:
    """Remove blobs unless objects have them, and say whether they could be seen to; if not, a sweep will.

    Whether one has it is told by its leftover row: a transaction whose outcome nobody has heard may have taken it.
    """
    try:
        with transaction.atomic():
            for found in carry_out(unlist(names)):
                blobs.remove(found)
    except (Unavailable, DatabaseError) as exc:
        note_left(len(names), exc)
        return False
    return True


def unlist(names: Sequence[str]) -> Steps[list[str]]:
    """Return those of some blobs that no object has; what there is of them must be removed before the transaction commits."""
    rows = yield Statement(
        "storage/unlist_blobs", {"blobs": pgarray.texts([name.encode() for name in names])}
    )
    return [row["blob"] for row in rows]


def note_left(count: int, why: Exception) -> None:
    """Note that blobs could not be removed."""
    log.warning("%d blobs were not removed, a sweep will: %s", count, why)
