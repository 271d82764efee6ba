"""Health, readiness and metrics (topics v0 §20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from django.conf import settings

from apps.core import exposition, lifespan
from apps.core.api.scope import ANY, PUBLIC
from apps.core.dataplane import View, respond
from apps.core.slim import Answer
from apps.topics.vitals import metrics, readiness

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller

_json = msgspec.json.encode


class ProbeView(View):
    scope = {"GET": PUBLIC}

    def scope_of(self, method: str | None) -> str:
        # §3.3
        return ANY if settings.GYOZA_PROBE_AUTH else PUBLIC


class HealthView(ProbeView):
    async def get(self, request: HttpRequest, caller: Caller | None) -> Answer:
        answer = {
            "status": "ok",
            "version": settings.GYOZA_VERSION,
            "uptime_ms": lifespan.uptime_ms(),
        }
        return respond(_json(answer))


class ReadyView(ProbeView):
    async def get(self, request: HttpRequest, caller: Caller | None) -> Answer:
        topics = await readiness.topics_when_ready()
        return respond(_json({"status": "ready", "wal_replay_complete": True, "topics": topics}))


class MetricsView(View):
    scope = {"GET": "read"}

    async def get(self, request: HttpRequest, caller: Caller) -> Answer:
        if "application/json" in (request.headers.get("Accept") or ""):
            return respond(_json(metrics.as_json(await metrics.gather(by_topic=False))))
        found = metrics.as_series(await metrics.gather(by_topic=True))
        return Answer(exposition.render(found), content_type=exposition.CONTENT_TYPE)
