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


class ObjectView(View):
    scope = {"GET": "read", "PUT": "write", "DELETE": "delete"}
    # An op reads and writes what belongs to its own execution: `queries.spaces_visible_to`.
    run_token = True

    async def put(self, request: HttpRequest, caller: Caller, key: str) -> Answer:
        wanted = requests.key_of(request)
        new = requests.new_object(request, wanted, caller)
        limit: int = settings.GYOZA_STORAGE_MAX_OBJECT_BYTES
        length = requests.announced_length(request)
        # Before the first byte has come: who is refused needn't send them all.
        space = await in_own_thread(
            services.admit_write,
            key=wanted,
            caller=caller,
            length=min(length, limit),
            is_first=new.is_first,
        )
        content = await in_own_thread(Incoming, limit=limit)
        try:
            async for piece in requests.content_of(request, limit):
                await in_own_thread(content.add, piece)
            stored, is_new = await in_own_thread(
                services.put_object, execution_id=space.pk, new=new, content=content
            )
        finally:
            await in_own_thread(content.close)
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
