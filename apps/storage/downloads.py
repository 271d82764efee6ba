"""Content on its way out: an answer in pieces, which a browser never runs as a page of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from django.http import StreamingHttpResponse
from django.utils.http import http_date

from apps.core.contentpolicy import OF_FOREIGN_CONTENT
from apps.core.threads import in_own_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from apps.storage.blobs import Readable
    from apps.storage.models import Object

PIECE_BYTES = 256 * 1024
# Shown where it is: nothing of these runs. All others are saved as files.
_INERT = frozenset(
    {
        "application/json",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/markdown",
        "text/plain",
        "video/mp4",
        "video/ogg",
        "video/webm",
    }
)


class Part(Protocol):
    """What is wanted of an object: from `start`, `length` bytes."""

    @property
    def start(self) -> int: ...

    @property
    def length(self) -> int: ...


def headers_of(one: Object) -> dict[str, str]:
    """Return what is told of an object's content whether it is sent or not."""
    return {
        "ETag": f'"{one.etag}"',
        "Last-Modified": http_date(one.modified_at.timestamp()),
        "Cache-Control": "private, no-cache",
    }


def download(one: Object, span: Part | None, opened: Readable | None) -> StreamingHttpResponse:
    """Return the answer with an object or a part of it, read from what was opened there and is closed with it."""
    length = one.content_length if span is None else span.length
    response = StreamingHttpResponse(
        _pieces(opened, length),
        status=200 if span is None else 206,
        content_type=one.content_type,
        headers={
            **headers_of(one),
            "Accept-Ranges": "bytes",
            "Content-Length": str(length),
            "Content-Disposition": _disposition(one),
            **OF_FOREIGN_CONTENT,
        },
    )
    if span is not None:
        response["Content-Range"] = (
            f"bytes {span.start}-{span.start + length - 1}/{one.content_length}"
        )
    return response


async def _pieces(opened: Readable | None, length: int) -> AsyncIterator[bytes]:
    if opened is None:
        return
    try:
        while length > 0:
            piece = await in_own_thread(opened.read, min(length, PIECE_BYTES))
            if not piece:
                return  # shorter than it was: the client sees that its length is not right
            length -= len(piece)
            yield piece
    finally:
        await in_own_thread(opened.close)


def _disposition(one: Object) -> str:
    essence = one.content_type.partition(";")[0].strip().lower()
    shown = "inline" if essence in _INERT else "attachment"
    return f"{shown}; filename*=UTF-8''{quote(one.name.rpartition('/')[2], safe='')}"
