"""The content of objects: written, read and deleted through the data plane, in pieces (pipelines-storage.md §4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from apps.core.api.renderers import encode
from apps.core.dataplane import View, respond
from apps.core.slim import Answer
from apps.core.threads import in_own_thread
from apps.storage import blobs, downloads, queries, services
from apps.storage.api import requests
from apps.storage.errors import ObjectNotFound
from apps.storage.incoming import Incoming
from apps.storage.wire import object_body
from apps.storage.writes import desk
from apps.storage.writes.uploads import InMemory

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.storage.models import Object
    from apps.storage.writes.uploads import Content


class Arriving:
    """Content that comes in pieces. The first one waits here: most objects have no other, and need no thread for it."""

    def __init__(self) -> None:
        self.length = 0
        self.rest = b""
        self.file: Incoming | None = None

    async def add(self, piece: bytes) -> None:
        """Keep the newest piece, and write the one before it down."""
        if self.rest:
            await in_own_thread(self.write_down)
        self.rest = piece
        self.length += len(piece)

    def write_down(self) -> Incoming:
        """Return the file with all that has come."""
        if self.file is None:
            self.file = Incoming()
        self.file.add(self.rest)
        self.rest = b""
        return self.file

    def whole(self) -> Content:
        """Return all that has come, for the backend."""
        return InMemory(self.rest) if self.file is None else self.write_down()

    async def close(self) -> None:
        """Remove the file, unless the backend has taken it."""
        if self.file is not None and not self.file.closed:
            await in_own_thread(self.file.close)


class ObjectView(View):
    scope = {"GET": "read", "PUT": "write", "DELETE": "delete"}
    # An op reads and writes what belongs to its own execution: `queries.spaces_visible_to`.
    run_token = True
    staff_session = True

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
                only_if=new.only_if,
            )
        content = Arriving()
        try:
            async for piece in requests.content_of(request, limit):
                await content.add(piece)
            stored, is_new = await desk.write(
                key=wanted, caller=caller, new=new, length=content.length, content=content.whole
            )
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
            requests.require_version(request.headers, found)
            if requests.is_unchanged(request.headers, found):
                return _unchanged(found)
            span = requests.span_of(request.headers, found)
            if request.method == "HEAD":
                return downloads.download(found, span, None)
            try:
                opened = await in_own_thread(blobs.open_at, found.blob, span.start if span else 0)
            except blobs.BlobGone:
                # Replaced or deleted since it was looked up; but what is still so has lost its content.
                again = await in_own_thread(queries.get_object, key=wanted, caller=caller)
                if again.blob == found.blob:
                    raise ObjectNotFound(f"the content of {found.key} has gone") from None
                continue
            return downloads.download(found, span, opened)

    async def delete(self, request: HttpRequest, caller: Caller, key: str) -> Answer:
        wanted = requests.key_of(request)
        deleted = await in_own_thread(
            services.delete_object,
            key=wanted,
            caller=caller,
            only_if=requests.condition_of(request.headers),
        )
        return respond(encode({"deleted": True, "key": deleted.key}))


def _unchanged(one: Object) -> Answer:
    answer = Answer(b"", 304)
    answer.headers = downloads.headers_of(one)
    return answer
