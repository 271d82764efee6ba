"""Opening a stream of storage events: whether it can be, for whom, and from where on."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from django_eventstream.utils import get_channelmanager, get_storage

from apps.core import ids
from apps.core.sse import frames, hub, relay
from apps.core.sse.relayed import Start, Terms, follow_log
from apps.core.threads import in_own_thread
from apps.storage import queries
from apps.storage.errors import StreamerUnavailable
from apps.storage.eventstream.channels import execution_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.storage.eventstream.log import EventLog
    from apps.storage.eventstream.wanted import Wanted

RETRY_MS = 3000
_OPENING = frames.comment("storage events") + frames.retry(RETRY_MS)
# By so much the clocks of two machines may differ: that of who opened a space, and that of who wrote there first.
_SKEW = timedelta(minutes=1)
# Who ends an execution notes the time, then waits for those who are writing.
_LONGEST_WRITE = timedelta(minutes=10)


async def open_stream(request: HttpRequest, caller: Caller, wanted: Wanted) -> AsyncIterator[bytes]:
    """Return the frames of a stream, which begins now, not when it is sent. Raises StreamerUnavailable, ExecutionNotFound."""
    if not await hub.current().is_reached():
        raise StreamerUnavailable
    channels: set[str] = await in_own_thread(
        get_channelmanager().get_channels_for_request,
        request,
        {"caller": caller, "executions": wanted.executions},
    )
    log: EventLog = get_storage()
    start, until = await _span(log, wanted, channels)
    return follow_log(
        log,
        start,
        Terms(frozenset(channels), wanted.only.matches, *wanted.lasts, until=until),
        opening=_OPENING,
    )


async def _span(log: EventLog, wanted: Wanted, channels: set[str]) -> tuple[Start, int | None]:
    """Return where a stream begins, and where it ends if that is known: what is in between may be a part of a huge log."""
    if wanted.seen is None and not wanted.replay:
        return await log.newest(), None
    executions = [one for one in map(execution_of, channels) if one is not None]
    opened_at, closed_at = await in_own_thread(queries.lifetime, executions)
    seen = wanted.seen or 0
    after = await _find(log, max(seen, ids.lowest_at(opened_at - _SKEW).int))
    if closed_at is None or wanted.lasts.keep_open:
        return Start(after, seen), None
    # Not shared: a search that was begun before all had ended may stop before the last event.
    return Start(after, seen), await log.find(ids.lowest_at(closed_at + _SKEW + _LONGEST_WRITE).int)


async def _find(log: EventLog, event_id: int) -> int:
    # All who were at a process that has died come at once, with the same few ids; events don't move.
    find = partial(log.find, event_id)
    return await relay.of(log).shared.get(("find", event_id), find, is_final=lambda _: True)
