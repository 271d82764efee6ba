"""GET /api/v1/storage/archive/{execution}: an execution, a stage or a folder as one file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.http import StreamingHttpResponse

from apps.core.api.parameters import Parameters
from apps.core.contentpolicy import OF_FOREIGN_CONTENT
from apps.core.dataplane import View
from apps.core.threads import in_own_thread
from apps.storage import archive, listing, queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from django.http import HttpRequest

    from apps.access.auth import Caller


class ArchiveView(View):
    scope = {"GET": "read"}
    run_token = True
    staff_session = True

    async def get(
        self, request: HttpRequest, caller: Caller, execution: str
    ) -> StreamingHttpResponse:
        query = Parameters(request.GET)
        stage, prefix = query.text("stage") or None, query.text("prefix") or ""
        query.finish()
        space = await in_own_thread(queries.get_space, named=execution, caller=caller)
        made = archive.pieces(listing.walk(space, prefix=prefix, stage=stage))
        return StreamingHttpResponse(
            sent(made),
            content_type="application/zip",
            headers={
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(str(space), safe='')}.zip",
                "Cache-Control": "private, no-cache",
                **OF_FOREIGN_CONTENT,
            },
        )


async def sent(made: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Yield what a generator makes in threads, and close it with what it has open, also when nobody wants the rest."""
    # Whoever has gone leaves a thread behind that is still at a piece.
    turn = threading.Lock()

    def piece() -> bytes:
        with turn:
            return next(made, b"")

    def close() -> None:
        with turn:
            made.close()

    try:
        while found := await in_own_thread(piece):
            yield found
    finally:
        await in_own_thread(close)
