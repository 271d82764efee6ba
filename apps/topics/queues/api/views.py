from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic

import msgspec

from apps.core.dataplane import View, body_of, require_json, respond
from apps.core.errors import Invalid
from apps.core.intake import unless_gone
from apps.core.slim import SlimRequest
from apps.core.sse.stream import follow_source, response
from apps.topics.api import params
from apps.topics.api.answers import ms_since
from apps.topics.api.bodies import parse
from apps.topics.api.watch import accept_stream
from apps.topics.appending import batch
from apps.topics.queues import desk, passes, rooms
from apps.topics.queues.api import bodies
from apps.topics.queues.api.bodies import Body
from apps.topics.queues.orders import Ack, Claim, Extend, Nack
from apps.topics.queues.rooms import Worker

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.queues.orders import Decided, Verdict

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
        # A window may keep it waiting for seconds, and jobs of a client that has left are nobody's until their leases end.
        order = Claim(node, bodies.clamped_max(body.max), lease_ms)
        claiming = desk.claim(topic, order)
        if isinstance(request, SlimRequest):
            claiming = unless_gone(request.receive, claiming)
        claimed = await claiming
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


class VerdictView(View, ABC, Generic[Body]):
    """What is common to those who decide about leased jobs (§18.2); each says what its body asks for."""

    scope = {"POST": "write"}
    other = "write"
    named = "topic"
    read: msgspec.json.Decoder[Body]
    # What the jobs are that were acted on.
    done: bytes

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        require_json(request)
        body = parse(self.read, content)
        leases = bodies.leases_of(body)
        order = self.order(body, batch.escape(body.node), leases)
        decided = await desk.decide(topic, order)
        performance = b'"server_total_ms":%.3f' % ms_since(started)
        if decided.fsync_ms:
            performance += b',"fsync_ms":%.3f' % decided.fsync_ms
        return respond(
            b'{"topic":%b,"%b":%d,"skipped":%b,%b,"performance":{%b}}'
            % (
                _json(topic),
                self.done,
                len(decided.done),
                _json(decided.skipped),
                self.told(decided),
                performance,
            )
        )

    @abstractmethod
    def order(self, body: Body, node: bytes, leases: list[int]) -> Verdict:
        """Return what is asked of these leases."""

    def told(self, decided: Decided) -> bytes:
        return b'"ready":%d,"in_flight":%d' % (decided.depth.ready, decided.depth.in_flight)


class AckView(VerdictView[bodies.AckBody]):
    read = bodies.read_ack
    done = b"acked"

    def order(self, body: bodies.AckBody, node: bytes, leases: list[int]) -> Ack:
        return Ack(node, body.seqs, leases)


class NackView(VerdictView[bodies.NackBody]):
    read = bodies.read_nack
    done = b"nacked"

    def order(self, body: bodies.NackBody, node: bytes, leases: list[int]) -> Nack:
        return Nack(node, body.seqs, leases, min(body.delay_ms, bodies.MAX_DELAY_MS))


class ExtendView(VerdictView[bodies.ExtendBody]):
    read = bodies.read_extend
    done = b"extended"

    def order(self, body: bodies.ExtendBody, node: bytes, leases: list[int]) -> Extend:
        return Extend(node, body.seqs, leases, bodies.clamped_lease(body.lease_ms))

    def told(self, decided: Decided) -> bytes:
        return b'"deadlines":%b' % _json({str(seq): decided.deadline for seq in decided.done})


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
