"""Many objects as one ZIP, made while it is sent."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from zipstream import ZIP_STORED, ZipStream

from apps.storage import blobs
from apps.storage.errors import ObjectNotFound
from apps.storage.models import Object

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from apps.storage.blobs import Readable

_PIECE_BYTES = 256 * 1024


def pieces(objects: Iterable[Object]) -> Generator[bytes, None, None]:
    """Yield the archive in pieces of some size; one object is open at a time, and none is in memory as a whole.

    An object that is replaced meanwhile is the old or the new one; one that is deleted is left out.

    Raises ObjectNotFound for one that has lost its content, and Unavailable: what isn't whole must not look so.
    """
    gathered = bytearray()
    for piece in _raw(objects):
        gathered += piece
        if len(gathered) >= _PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def _raw(objects: Iterable[Object]) -> Iterator[bytes]:
    # Not compressed: most of what is large is compressed already, and the web process has other things to do.
    archive = ZipStream(compress_type=ZIP_STORED)
    for one in objects:
        opened = _opened(one)
        if opened is not None:
            with closing(opened):
                archive.add(_content(opened), one.name)
                yield from archive.all_files()
    yield from archive.finalize()


def _opened(one: Object) -> Readable | None:
    try:
        return blobs.open_at(one.blob, 0)
    except blobs.BlobGone:
        newer = Object.objects.filter(space_id=one.space_id, name=one.name).first()
        if newer is None:
            return None
        if newer.blob == one.blob:
            raise ObjectNotFound(f"the content of {one.key} has gone") from None
        return _opened(newer)


def _content(opened: Readable) -> Iterator[bytes]:
    while piece := opened.read(_PIECE_BYTES):
        yield piece
