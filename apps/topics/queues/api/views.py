from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core.dataplane import View, body_of, require_json, respond
from apps.core.errors import Invalid
from apps.core.sse.stream import follow_source, response
from apps.topics import batch
from apps.topics.api import params
from apps.topics.api.answers import ms_since
from apps.topics.api.bodies import parse
from apps.topics.api.watch import accept_stream
from apps.topics.queues import desk, passes, rooms
from apps.topics.queues.api import bodies
from apps.topics.queues.orders import Ack, Claim, Extend, Nack
from apps.topics.queues.rooms import Worker

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.queues.orders import Decided

_json = msgspec.json.encode


class ClaimView(View):
    scope = {"POST": "read+write"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        if not content:
            raise Invalid("the body is empty")
        require_json(request)
        body = parse(bodies.read_claim, content)
        try:
            node = bodies.claimed_node(body.node)
        except Invalid:
            # §18.3: whether there is such a queue comes first.
            await passes.open_queue(topic)
            raise
        lease_ms = None if body.lease_ms is None else bodies.clamped_lease(body.lease_ms)
        claimed = await desk.claim(topic, Claim(node, bodies.clamped_max(body.max), lease_ms))
        jobs = b",".join([b"{%b}" % job.members for job in claimed.jobs])
        members = b'{"topic":%b,"claimed":[%b],"count":%d,"ready":%d' % (
            _json(topic),
            jobs,
            len(claimed.jobs),
            claimed.depth.ready,
        )
        if claimed.depth.is_paused:
            members += b',"paused":true'
        return respond(members + b',"performance":{"server_total_ms":%.3f}}' % ms_since(started))


class AckView(View):
    scope = {"POST": "write"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        body = await _verdict(request, bodies.read_ack)
        leases = bodies.leases_of(body)
        decided = await desk.decide(topic, Ack(batch.escape(body.node), body.seqs, leases))
        return respond(_answer(topic, b"acked", decided, started))


class NackView(View):
    scope = {"POST": "write"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        body = await _verdict(request, bodies.read_nack)
        leases = bodies.leases_of(body)
        delay_ms = min(body.delay_ms, bodies.MAX_DELAY_MS)
        order = Nack(batch.escape(body.node), body.seqs, leases, delay_ms)
        return respond(_answer(topic, b"nacked", await desk.decide(topic, order), started))


class ExtendView(View):
    scope = {"POST": "write"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        body = await _verdict(request, bodies.read_extend)
        leases = bodies.leases_of(body)
        lease_ms = bodies.clamped_lease(body.lease_ms)
        order = Extend(batch.escape(body.node), body.seqs, leases, lease_ms)
        decided = await desk.decide(topic, order)
        deadlines = {str(seq): decided.deadline for seq in decided.done}
        return respond(
            b'{"topic":%b,"extended":%d,"skipped":%b,"deadlines":%b,"performance":{"server_total_ms":%.3f}}'
            % (
                _json(topic),
                len(decided.done),
                _json(decided.skipped),
                _json(deadlines),
                ms_since(started),
            )
        )


class WorkView(View):
    scope = {"GET": "read+write"}
    other = "write"
    named = "topic"
    query_token = True
    is_stream = True
    frames = rooms.KINDS

    async def get(self, request: HttpRequest, caller: Caller, topic: str) -> HttpResponseBase:
        accept_stream(request)
        node = bodies.claimed_node(request.GET.get("node", ""))
        most = bodies.clamped_max(params.whole(request, "max", default=1))
        lease_ms = params.whole(request, "lease_ms", default=-1)
        await passes.open_queue(topic)
        worker = Worker(topic, node, most, None if lease_ms < 0 else bodies.clamped_lease(lease_ms))
        return response(follow_source(worker), cache_control="no-store")


async def _verdict(request: HttpRequest, decoder: msgspec.json.Decoder[bodies.Body]) -> bodies.Body:
    content = await body_of(request)
    require_json(request)
    return parse(decoder, content)


def _answer(topic: str, verb: bytes, decided: Decided, started: float) -> bytes:
    performance = b'"server_total_ms":%.3f' % ms_since(started)
    if decided.fsync_ms:
        performance += b',"fsync_ms":%.3f' % decided.fsync_ms
    return b'{"topic":%b,"%b":%d,"skipped":%b,"ready":%d,"in_flight":%d,"performance":{%b}}' % (
        _json(topic),
        verb,
        len(decided.done),
        _json(decided.skipped),
        decided.depth.ready,
        decided.depth.in_flight,
        performance,
    )
