"""Following several topics over one connection (topics v0 §17)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.access import auth
from apps.core.api.scope import PUBLIC
from apps.core.dataplane import View, body_of, require_json, respond, token_of
from apps.core.errors import Forbidden, Invalid, NotAcceptable, Unauthorized
from apps.core.sse.outlet import Outlet
from apps.core.sse.stream import response
from apps.topics.api import bodies, params
from apps.topics.api.answers import ms_since
from apps.topics.api.following import (
    require_few,
    require_seen,
    selection_of,
    start_of,
    told_starts,
)
from apps.topics.names import MAX_NAME_LENGTH, name_ranges
from apps.topics.watch import frames, newcomers, sessions, streams
from apps.topics.watch.positions import decode_id
from apps.topics.watch.sessions import TTL_MS, Found, Subscription

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.watch.newcomers import Range
    from apps.topics.watch.sessions import Session

_json = msgspec.json.encode

# topics v0 §4.1
HEARTBEAT_MS = (1_000, 60_000)


class WatchView(View):
    scope = {"POST": "read"}

    async def post(self, request: HttpRequest, caller: Caller) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        require_json(request)
        body = bodies.parse_few(bodies.read_watch, content)
        ranges = _checked_ranges(body, caller)
        subscription = _subscription(body, ranges)
        found = await sessions.find_topics(
            list(body.topics), lenient=params.flag(request, "lenient", default=False)
        )
        for row in await newcomers.topics_within(ranges) if ranges else []:
            found.setdefault(row.name, Found(row.topic_id, row.head, row.earliest))
        require_few(found)
        positions = {name: start_of(_wanted(body, name), topic) for name, topic in found.items()}
        wid = await sessions.create(
            key_id=caller.key_id, subscription=subscription, positions=positions
        )
        topics = told_starts(found, positions)
        return respond(
            b'{"wid":%b,"stream_url":%b,"session_ttl_ms":%d,"topics":%b,"performance":{"server_total_ms":%.3f}}'
            % (_json(wid), _json(f"/v0/watch/{wid}"), TTL_MS, _json(topics), ms_since(started))
        )


class WatchStreamView(View):
    # §17.3: whoever made the session may open it, and the session says who that is.
    scope = {"GET": PUBLIC}
    query_token = True
    is_stream = True
    frames = frames.KINDS

    async def get(self, request: HttpRequest, caller: None, wid: str) -> HttpResponseBase:
        accept_stream(request)
        session = await sessions.get(wid)
        await _require_maker(request, session)
        told = decode_id(request.headers.get("Last-Event-ID") or "")
        outlet = Outlet()
        return response(
            streams.frames_of(session, told, outlet),
            charged_to=session.key_id,
            outlet=outlet,
            cache_control="no-store",
        )


def accept_stream(request: HttpRequest) -> None:
    """Raise NotAcceptable if the client says that it doesn't take a stream (§17.3)."""
    accept = request.headers.get("Accept")
    # Media types are the same in any case (RFC 9110 §8.3.1).
    if accept is not None and "text/event-stream" not in accept.lower() and "*/*" not in accept:
        raise NotAcceptable("this is a text/event-stream")


async def _require_maker(request: HttpRequest, session: Session) -> None:
    if session.key_id is None:
        return  # made while there was no key: knowing its name is enough
    caller = await auth.identify(request.headers, query_token=token_of(request))
    if caller.key_id != session.key_id:
        raise Unauthorized("this session belongs to another key")


def _checked_ranges(body: bodies.WatchBody, caller: Caller) -> tuple[Range, ...]:
    """Check the names that are asked for, and return the ranges of those that begin with the prefix."""
    if not body.topics and body.prefix is None:
        raise Invalid("`topics` is empty")
    require_few(body.topics)
    require_seen(body.topics, caller)
    if body.prefix is None:
        return ()
    if len(body.prefix) > MAX_NAME_LENGTH or not name_ranges(body.prefix, ()):
        raise Invalid("no topic's name begins with `prefix`")
    ranges = name_ranges(body.prefix, caller.prefixes)
    if not ranges:
        raise Forbidden("this prefix is not within the key's prefixes", prefix=body.prefix)
    return tuple(ranges)


def _wanted(body: bodies.WatchBody, name: str) -> bodies.WatchedBody:
    return body.topics.get(name) or bodies.WatchedBody(tail=body.prefix_tail)


def _subscription(body: bodies.WatchBody, ranges: tuple[Range, ...]) -> Subscription:
    low, high = HEARTBEAT_MS
    return Subscription(
        selection_of(body), heartbeat_ms=min(max(body.heartbeat_ms, low), high), ranges=ranges
    )
