"""Opening a stream of storage events: whether it can be, for whom, and from where on."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from django_eventstream.utils import get_channelmanager, get_storage

from apps.core import clock
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
    return follow_log(
        log,
        await _start(log, wanted, channels),
        Terms(
            channels=frozenset(channels),
            wants=wanted.only.matches,
            seconds=wanted.seconds,
            keep_open=wanted.keep_open,
        ),
        opening=_OPENING,
    )


async def _start(log: EventLog, wanted: Wanted, channels: set[str]) -> Start:
    if wanted.seen is not None:
        # All who were at a process that has died come at once, with the same few ids.
        find = partial(log.find, wanted.seen)
        return Start(await relay.of(log).share(("find", wanted.seen), find), wanted.seen)
    if not wanted.replay:
        return await log.newest()
    executions = [one for one in map(execution_of, channels) if one is not None]
    opened_at = await in_own_thread(queries.first_opened_at, executions)
    return Start(await log.find(clock.milliseconds(opened_at - _SKEW) << 80), 0)
