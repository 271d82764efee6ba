from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apps.core.api.pagination import cut
from apps.core.dataplane import NothingView, View, body_of, require_json, respond
from apps.core.errors import Forbidden
from apps.core.threads import in_own_thread
from apps.topics import config, descriptions, predicates, services
from apps.topics.api import bodies, large_writes, params
from apps.topics.api.answers import finished, seqs_member, written_members
from apps.topics.appending import groupcommit, writes
from apps.topics.keeping import eviction, touches
from apps.topics.names import name_ranges
from apps.topics.priority import effective_priority
from apps.topics.queues import queries as queue_queries
from apps.topics.states import TopicKind

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.appending.admission import Written
    from apps.topics.descriptions import TopicRow, TopicState


class TopicListView(View):
    scope = {"GET": "read"}

    async def get(self, request: HttpRequest, caller: Caller) -> Answer:
        started = time.perf_counter()
        size = params.page_size(request)
        ranges = name_ranges(request.GET.get("prefix", ""), caller.prefixes)
        after = params.page_start(request)
        found = await descriptions.list_topics(ranges, after=after, limit=size + 1)
        rows, has_more = cut(found, size)
        if params.flag(request, "touch", default=False):
            touches.consumed(row.topic_id for row in rows)
        answer: dict[str, object] = {"topics": [_listed(row) for row in rows]}
        if has_more:
            answer["next_cursor"] = params.next_cursor(rows[-1].name)
        return finished(answer, started)


class TopicView(View):
    scope = {"GET": "read", "PUT": "admin", "POST": "write", "DELETE": "delete"}
    other = "write"
    named = "topic"

    async def put(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        if content:
            require_json(request)
        wanted = bodies.parse(bodies.read_config, content or b"{}")
        done = await in_own_thread(
            services.configure_topic, topic=topic, wanted=wanted, caller=caller
        )
        answer = {"topic": topic, "created": done.created, "config": config.echo(done.columns)}
        return finished(answer, started, 201 if done.created else 200)

    async def get(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        state = await descriptions.get_topic_state(topic)
        if params.flag(request, "touch", default=True):
            touches.read(state.topic_id)
        answer = _state(state)
        if state.kind == TopicKind.QUEUE:
            counters = await queue_queries.queue_counters({state.topic_id: state.count})
            answer["queue"] = counters[state.topic_id].wire()
        return finished(answer, started)

    async def delete(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        done = await in_own_thread(
            services.delete_topic,
            topic=topic,
            if_empty=params.flag(request, "if_empty", default=False),
            caller=caller,
        )
        answer = {
            "topic": topic,
            "deleted": done.deleted,
            "routers_removed": done.routers_removed,
        }
        return finished(answer, started)

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        require_json(request)
        body = large_writes.parse_write(content)
        if body.config is not None and not caller.may("admin"):
            # §3.3: who may write may not choose how a topic is kept.
            if not await descriptions.exists(topic):
                raise Forbidden("creating a topic with a config needs the scope admin", topic=topic)
            # Nor if it is deleted this very moment.
            body.create, body.config = body.creates, None
        append = writes.append_of(
            topic, body, text=content, key_header=request.headers.get("Idempotency-Key")
        )
        written = await groupcommit.write(append)
        return _written(request, topic, written, started)


class DeleteRecordsView(View):
    scope = {"POST": "delete"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        require_json(request)
        body = bodies.parse_few(bodies.read_delete, content)
        match = None if body.match is None else predicates.parse(body.match)
        done = await in_own_thread(
            services.delete_records,
            topic=topic,
            before_seq=body.before_seq,
            match=match,
            caller=caller,
        )
        answer = {
            "topic": topic,
            "deleted": done.deleted,
            "earliest_seq": done.earliest,
            "head_seq": done.head,
            "count": done.count,
            "bytes": done.bytes,
        }
        return finished(answer, started)


class NothingBelowTopicView(NothingView):
    # §3.3: what is not recognised below a topic fails closed.
    other = "write"
    named = "topic"


def _written(request: HttpRequest, topic: str, written: Written, started: float) -> Answer:
    is_told = params.flag(request, "return_seqs", default=True)
    seqs = seqs_member(written) if is_told else b""
    members = written_members(topic, written, started, seqs=seqs)
    return respond(b"{" + members, 201 if written.created else 200)


def _listed(row: TopicRow) -> dict[str, object]:
    return {
        "topic": row.name,
        "head_seq": row.head,
        "earliest_seq": row.earliest,
        "count": row.count,
        "bytes": row.bytes,
        "durable": row.durable,
        "effective_priority": effective_priority(
            manual=row.priority,
            auto=row.auto_priority,
            last_consumed=touches.last_consumed(row.topic_id, row.last_consumed_ts),
            now=eviction.now_ms(),
        ),
    }


def _state(state: TopicState) -> dict[str, object]:
    return {
        "topic": state.name,
        "type": state.kind,
        "head_seq": state.head,
        "earliest_seq": state.earliest,
        "next_seq": state.head + 1,
        "count": state.count,
        "bytes": state.bytes,
        "config": config.echo(state.config),
        "effective_priority": effective_priority(
            manual=state.config["priority"],
            auto=state.config["auto_priority"],
            last_consumed=touches.last_consumed(state.topic_id, state.last_consumed_ts),
            now=eviction.now_ms(),
        ),
        "last_write_ts": state.last_write_ts,
        "last_read_ts": touches.last_read(state.topic_id, state.last_read_ts),
    }
