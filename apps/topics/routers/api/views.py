from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core.api.pagination import cut
from apps.core.dataplane import View, body_of, require_json
from apps.core.threads import in_own_thread
from apps.topics.api import bodies, params
from apps.topics.api.answers import finished
from apps.topics.names import name_ranges
from apps.topics.routers import queries, services
from apps.topics.routers.config import RouterConfig

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.slim import Answer
    from apps.topics.predicates import TagPredicate

_read = msgspec.json.Decoder(RouterConfig)


class RouterListView(View):
    scope = {"GET": "read"}

    async def get(self, request: HttpRequest, caller: Caller) -> Answer:
        started = time.perf_counter()
        size = params.page_size(request)
        found = await queries.list_routers(
            name_ranges(request.GET.get("prefix", ""), caller.prefixes),
            after=params.page_start(request),
            limit=size + 1,
            source=request.GET.get("source"),
            dest=request.GET.get("dest"),
            prefixes=caller.prefixes,
        )
        rows, has_more = cut(found, size)
        answer: dict[str, object] = {
            "routers": [
                {
                    "router": row.name,
                    "source": row.source,
                    "dest": row.dest,
                    "guarantee": row.guarantee,
                    "forwarded_total": row.forwarded_total,
                }
                for row in rows
            ]
        }
        if has_more:
            answer["next_cursor"] = params.next_cursor(rows[-1].name)
        return finished(answer, started)


class RouterView(View):
    scope = {"GET": "read", "PUT": "admin", "DELETE": "delete"}
    named = "router"

    async def put(self, request: HttpRequest, caller: Caller, router: str) -> Answer:
        started = time.perf_counter()
        content = await body_of(request)
        require_json(request)
        wanted = bodies.parse(_read, content)
        predicate = wanted.predicate()
        services.require_sight(caller, wanted.source, wanted.dest)
        done = await in_own_thread(
            services.configure_router, router=router, wanted=wanted, caller=caller
        )
        answer = {
            "router": router,
            "created": done.created,
            "source": wanted.source,
            "dest": wanted.dest,
            "preserve_node": wanted.preserve_node,
            "preserve_tag": wanted.preserve_tag,
            "filter": _wire(predicate),
            "allow_cycle": wanted.allow_cycle,
            "guarantee": wanted.guarantee,
        }
        return finished(answer, started, 201 if done.created else 200)

    async def get(self, request: HttpRequest, caller: Caller, router: str) -> Answer:
        started = time.perf_counter()
        state = await queries.get_router(router)
        services.require_sight(caller, state.source, state.dest)
        state = await queries.get_settled_router(state)
        answer = {
            "router": state.name,
            "source": state.source,
            "dest": state.dest,
            "preserve_node": state.preserve_node,
            "preserve_tag": state.preserve_tag,
            "filter": _wire(state.filter),
            "allow_cycle": state.allow_cycle,
            "guarantee": state.guarantee,
            "forwarded_total": state.forwarded_total,
        }
        return finished(answer, started)

    async def delete(self, request: HttpRequest, caller: Caller, router: str) -> Answer:
        started = time.perf_counter()
        deleted = await in_own_thread(services.delete_router, router=router, caller=caller)
        return finished({"router": router, "deleted": deleted}, started)


def _wire(predicate: TagPredicate | None) -> list[str] | None:
    return None if predicate is None else predicate.wire()
