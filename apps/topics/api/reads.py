"""Diff, the read (topics v0 §13)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core import lifespan
from apps.core.dataplane import View, body_of, require_json, respond
from apps.core.sse import wakeups
from apps.topics import predicates, queries
from apps.topics.api import bodies
from apps.topics.api.answers import ms_since
from apps.topics.errors import TopicNotFound
from apps.topics.keeping import touches

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.queries import JsonPage

_json = msgspec.json.encode

# topics v0 §4.1
DIFF_LIMIT, DIFF_LIMIT_MAX = 256, 1000
DIFF_BYTES, DIFF_BYTES_MAX = 1024 * 1024, 8 * 1024 * 1024
WAIT_MS_MAX = 30_000


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


async def _read(topic: str, body: bodies.DiffBody) -> JsonPage:
    page = await queries.read_records(
        topic,
        after=body.from_seq,
        limit=min(body.limit or DIFF_LIMIT, DIFF_LIMIT_MAX),
        budget=min(body.max_batch_bytes or DIFF_BYTES, DIFF_BYTES_MAX),
        nodes=body.nodes,
        tag=None if body.tag is None else predicates.parse(body.tag),
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
