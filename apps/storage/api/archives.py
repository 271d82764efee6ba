"""GET /api/v1/storage/archive/{execution}: an execution, a stage or a folder as one file."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from django.http import StreamingHttpResponse

from apps.core.api.parameters import Parameters
from apps.core.dataplane import View
from apps.core.threads import in_own_thread
from apps.storage import archive, listing, queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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
            _sent(made),
            content_type="application/zip",
            headers={
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(str(space), safe='')}.zip",
                "Cache-Control": "private, no-cache",
                "X-Content-Type-Options": "nosniff",
            },
        )


async def _sent(made: Iterator[bytes]) -> AsyncIterator[bytes]:
    try:
        while piece := await in_own_thread(next, made, b""):
            yield piece
    finally:
        # What is open is closed.
        await in_own_thread(made.close)  # type: ignore[attr-defined]
