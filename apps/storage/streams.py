"""GET /api/v1/storage/events: the objects of executions as they are written (pipelines-storage.md §5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from apps.core import sql
from apps.core.dataplane import View
from apps.core.errors import Unavailable
from apps.core.sse.frames import ERROR
from apps.core.sse.stream import response
from apps.storage.errors import StreamerUnavailable
from apps.storage.eventstream.log import OBJECT_CREATED, OBJECT_DELETED
from apps.storage.eventstream.opening import open_stream
from apps.storage.eventstream.wanted import read_wanted

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller

_AWAY = (*sql.AWAY, psycopg.OperationalError)


class StorageEventsView(View):
    scope = {"GET": "read"}
    # An op hears what belongs to its own execution: `queries.spaces_visible_to`.
    run_token = True
    query_token = True  # a browser's EventSource sends no headers
    staff_session = True
    is_stream = True
    frames = (OBJECT_CREATED, OBJECT_DELETED, ERROR)

    async def identify(self, request: HttpRequest) -> Caller:
        try:
            return await super().identify(request)  # type: ignore[return-value]
        except (*_AWAY, Unavailable) as exc:
            read_wanted(request.GET, request.headers)  # 422 goes before 503
            raise StreamerUnavailable from exc

    async def get(self, request: HttpRequest, caller: Caller) -> HttpResponseBase:
        wanted = read_wanted(request.GET, request.headers)
        try:
            return response(await open_stream(request, caller, wanted))
        except _AWAY as exc:
            raise StreamerUnavailable from exc
