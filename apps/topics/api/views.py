from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core import lifespan
from apps.core.api.pagination import cut
from apps.core.dataplane import NothingView, View, body_of, require_json, respond
from apps.core.errors import Forbidden
from apps.core.sse import wakeups
from apps.core.threads import in_own_thread
from apps.topics import (
    config,
    descriptions,
    eviction,
    groupcommit,
    predicates,
    queries,
    services,
    touches,
    writes,
)
from apps.topics.api import bodies, params
from apps.topics.errors import TopicNotFound
from apps.topics.names import name_ranges
from apps.topics.priority import effective_priority
from apps.topics.queues import queries as queue_queries
from apps.topics.states import TopicKind

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.descriptions import TopicRow, TopicState
    from apps.topics.queries import JsonPage

_json = msgspec.json.encode

# topics v0 §4.1
DIFF_LIMIT, DIFF_LIMIT_MAX = 256, 1000
DIFF_BYTES, DIFF_BYTES_MAX = 1024 * 1024, 8 * 1024 * 1024
WAIT_MS_MAX = 30_000


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
        body = bodies.parse(bodies.read_write, content)
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
        members = b'{"topic":%b,"first_seq":%d,"last_seq":%d' % (
            _json(topic),
            written.first_seq,
            written.last_seq,
        )
        if params.flag(request, "return_seqs", default=True):
            members += b',"seqs":%b' % _json(range_of(written.first_seq, written.last_seq))
        performance = b'"server_total_ms":%.3f' % ms_since(started)
        if not written.deduped:
            performance += b',"wal_append_ms":%.3f,"fsync_ms":%.3f' % (
                written.append_ms,
                written.fsync_ms,
            )
        members += b',"head_seq":%d,"count":%d,"created":%b,"deduped":%b,"performance":{%b}}' % (
            written.last_seq,
            written.last_seq - written.first_seq + 1,
            _json(written.created),
            _json(written.deduped),
            performance,
        )
        return respond(members, 201 if written.created else 200)


class DiffView(View):
    scope = {"POST": "read"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        if content:
            require_json(request)
        body = bodies.parse_few(bodies.read_diff, content or b"{}")
        wait = min(body.wait_ms, WAIT_MS_MAX) / 1000
        page = await (_read_or_wait(topic, body, wait) if wait else _read(topic, body))
        return respond(_diff_answer(topic, page, started))


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


def range_of(first: int, last: int) -> list[int]:
    """Return first … last."""
    return list(range(first, last + 1))


def ms_since(started: float) -> float:
    """Return the milliseconds since a reading of the performance counter."""
    return (time.perf_counter() - started) * 1000


def finished(answer: dict[str, object], started: float, status: int = 200) -> Answer:
    """Answer with how long it took (§2.7)."""
    performance = {"server_total_ms": round(ms_since(started), 3)}
    return respond(_json({**answer, "performance": performance}), status)


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


async def _read(topic: str, body: bodies.DiffBody) -> JsonPage:
    page = await queries.read_records(
        topic,
        after=body.from_seq,
        limit=min(body.limit or DIFF_LIMIT, DIFF_LIMIT_MAX),
        budget=min(body.max_batch_bytes or DIFF_BYTES, DIFF_BYTES_MAX),
        nodes=body.nodes,
        with_tags=body.include_tags,
        with_meta=body.include_meta,
    )
    if page is None:
        raise TopicNotFound.of(topic)
    touches.read(page.topic_id)
    return page


async def _read_or_wait(topic: str, body: bodies.DiffBody, wait: float) -> JsonPage:
    """Read, and if there is nothing, once more when the topic has grown (§13, ⚑45)."""
    until = time.monotonic() + wait
    with wakeups.subscribe(queries.channel(topic)) as news:
        page = await _read(topic, body)
        first = page
        while not page.count and page.gap is None and page.caught_up:
            remaining = until - time.monotonic()
            has_grown = page.marks.head != first.marks.head
            if has_grown or remaining <= 0 or lifespan.is_draining():
                break
            await news.wait(remaining)
            page = await _read(topic, body)
    return page


def _diff_answer(topic: str, page: JsonPage, started: float) -> bytes:
    marks = page.marks
    tombstone: dict[str, object] | None = None
    if page.gap is not None:
        tombstone = {
            "gap_from": page.gap.gap_from,
            "gap_to": page.gap.gap_to,
            "reason": page.gap.reason,
            "missed_estimate": page.gap.missed_estimate,
            "earliest_seq": page.gap.earliest_seq,
            "head_seq": page.gap.head_seq,
        }
    return (
        b'{"topic":%b,"records":[%b],"next_from_seq":%d,"head_seq":%d,"earliest_seq":%d,"caught_up":%b,'
        b'"tombstone":%b,"lag":%d,"performance":{"server_total_ms":%.3f,"records_scanned":%d}}'
    ) % (
        _json(topic),
        page.body,
        page.next_after,
        marks.head,
        marks.earliest,
        _json(page.caught_up),
        _json(tombstone),
        marks.head - page.next_after,
        ms_since(started),
        page.scanned,
    )
