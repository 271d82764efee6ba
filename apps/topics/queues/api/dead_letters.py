"""Dead letters over HTTP; not in topics v0, so their answers are ours (docs/howto/a-job-queue.md)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core.dataplane import View, body_of, require_json
from apps.core.threads import in_own_thread
from apps.topics.api import params
from apps.topics.api.answers import finished
from apps.topics.api.bodies import parse
from apps.topics.errors import BatchTooLarge
from apps.topics.queues import queries, services
from apps.topics.queues.api import bodies
from apps.topics.queues.services import MAX_REDRIVE

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.queues.queries import DeadLetter

LIMIT, LIMIT_MAX = 100, 1000


class DeadLettersView(View):
    scope = {"GET": "read"}
    other = "write"
    named = "topic"

    async def get(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        page = await in_own_thread(
            queries.read_dead_letters,
            topic,
            from_seq=params.whole(request, "from_seq", default=0),
            limit=min(max(params.whole(request, "limit", default=LIMIT), 1), LIMIT_MAX),
        )
        answer = {
            "topic": topic,
            "dead_letter": page.topic,
            "dead_letters": [_shown(letter) for letter in page.letters],
            "next_from_seq": page.next_from_seq,
            "caught_up": page.caught_up,
        }
        return finished(answer, started)


class RedriveView(View):
    scope = {"POST": "write"}
    other = "write"
    named = "topic"

    async def post(self, request: HttpRequest, caller: Caller, topic: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        if content:
            require_json(request)
        body = parse(bodies.read_redrive, content or b"{}")
        if len(body.seqs or ()) > MAX_REDRIVE:
            raise BatchTooLarge(f"more than {MAX_REDRIVE} seqs", max=MAX_REDRIVE)
        done = await in_own_thread(
            services.redrive_dead_letters,
            name=topic,
            seqs=body.seqs,
            most=body.limit or MAX_REDRIVE,
            caller=caller,
        )
        answer = {
            "topic": topic,
            "dead_letter": done.dead_letter,
            "redriven": len(done.seqs),
            "seqs": done.seqs,
            "skipped": done.skipped,
            "caught_up": done.caught_up,
        }
        return finished(answer, started)


def _shown(letter: DeadLetter) -> dict[str, object]:
    shown: dict[str, object] = {"$seq": letter.seq, "$ts": letter.ts}
    # Tags and nodes are stored as inside a JSON string.
    if letter.node is not None:
        shown["$node"] = msgspec.Raw(f'"{letter.node}"'.encode())
    if letter.tag is not None:
        shown["$tag"] = msgspec.Raw(f'"{letter.tag}"'.encode())
    shown |= {"src_seq": letter.src_seq, "deliveries": letter.deliveries}
    shown["data"] = msgspec.Raw(letter.data.encode())
    if letter.meta is not None:
        shown["meta"] = msgspec.Raw(letter.meta)
    return shown
