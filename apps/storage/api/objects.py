"""The content of objects: written, read and deleted through the data plane, in pieces (pipelines-storage.md §4)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils.http import http_date

from apps.core.api.renderers import encode
from apps.core.dataplane import View, respond
from apps.core.slim import Answer
from apps.core.threads import in_own_thread
from apps.storage import blobs, queries, services
from apps.storage.api import requests
from apps.storage.errors import ObjectNotFound
from apps.storage.incoming import Incoming
from apps.storage.wire import object_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.storage.api.requests import Span
    from apps.storage.blobs import Readable
    from apps.storage.keys import Key
    from apps.storage.models import Object
    from apps.storage.services import NewObject

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


class Arriving:
    """Content that comes in pieces. The first one waits here: most objects have no other, and need no thread for it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rest = b""
        self.file: Incoming | None = None

    async def add(self, piece: bytes) -> None:
        """Keep the newest piece, and write the one before it down."""
        if self.rest:
            await in_own_thread(self.write_down)
        self.rest = piece

    def write_down(self) -> Incoming:
        """Return the file with all that has come."""
        if self.file is None:
            self.file = Incoming(limit=self.limit)
        self.file.add(self.rest)
        self.rest = b""
        return self.file

    async def close(self) -> None:
        """Remove the file, unless the backend has taken it."""
        if self.file is not None and not self.file.closed:
            await in_own_thread(self.file.close)


class ObjectView(View):
    scope = {"GET": "read", "PUT": "write", "DELETE": "delete"}
    # An op reads and writes what belongs to its own execution: `queries.spaces_visible_to`.
    run_token = True

    async def put(self, request: HttpRequest, caller: Caller, key: str) -> Answer:
        wanted = requests.key_of(request)
        new = requests.new_object(request, wanted, caller)
        limit: int = settings.GYOZA_STORAGE_MAX_OBJECT_BYTES
        length = requests.announced_length(request)
        if length > requests.PIECE_BYTES:
            # Before the first byte has come: who is refused needn't send them all.
            await in_own_thread(
                services.expect_write,
                key=wanted,
                caller=caller,
                length=min(length, limit),
                is_first=new.is_first,
            )
        content = Arriving(limit)
        try:
            async for piece in requests.content_of(request, limit):
                await content.add(piece)
            stored, is_new = await in_own_thread(_store, wanted, caller, new, content)
        finally:
            await content.close()
        answer = respond(encode(object_body(stored)), 201 if is_new else 200)
        answer.headers["ETag"] = f'"{stored.etag}"'
        return answer

    async def get(
        self, request: HttpRequest, caller: Caller, key: str
    ) -> HttpResponseBase | Answer:
        wanted = requests.key_of(request)
        while True:
            found = await in_own_thread(queries.get_object, key=wanted, caller=caller)
            if requests.is_unchanged(request.headers, found):
                return _unchanged(found)
            span = requests.span_of(request.headers, found)
            if request.method == "HEAD":
                return _download(found, span, None)
            try:
                opened = await in_own_thread(blobs.open_at, found.blob, span.start if span else 0)
            except blobs.BlobGone:
                # Replaced or deleted since it was looked up; but what is still so has lost its content.
                again = await in_own_thread(queries.get_object, key=wanted, caller=caller)
                if again.blob == found.blob:
                    raise ObjectNotFound(f"the content of {found.key} has gone") from None
                continue
            return _download(found, span, opened)

    async def delete(self, request: HttpRequest, caller: Caller, key: str) -> Answer:
        wanted = requests.key_of(request)
        deleted = await in_own_thread(services.delete_object, key=wanted, caller=caller)
        return respond(encode({"deleted": True, "key": deleted.key}))


def _store(key: Key, caller: Caller, new: NewObject, content: Arriving) -> tuple[Object, bool]:
    space = services.admit_write(key=key, caller=caller)
    with content.write_down() as file:
        return services.put_object(execution_id=space.pk, new=new, content=file)


def _headers_of(one: Object) -> dict[str, str]:
    return {
        "ETag": f'"{one.etag}"',
        "Last-Modified": http_date(one.modified_at.timestamp()),
        "Cache-Control": "private, no-cache",
    }


def _unchanged(one: Object) -> Answer:
    answer = Answer(b"", 304)
    answer.headers = _headers_of(one)
    return answer


def _download(one: Object, span: Span | None, opened: Readable | None) -> StreamingHttpResponse:
    length = one.content_length if span is None else span.length
    response = StreamingHttpResponse(
        _pieces(opened, length),
        status=200 if span is None else 206,
        content_type=one.content_type,
        headers={
            **_headers_of(one),
            "Accept-Ranges": "bytes",
            "Content-Length": str(length),
            "Content-Disposition": _disposition(one),
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
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
