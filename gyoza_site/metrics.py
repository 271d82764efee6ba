"""GET /metrics: the whole service for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from apps.core import exposition
from apps.core.dataplane import View
from apps.core.slim import Answer
from apps.pipelines import metrics as pipelines
from apps.runs import metrics as runs
from apps.storage import metrics as storage
from apps.topics.vitals import metrics as topics

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.core.exposition import Series


class MetricsView(View):
    # As /v0/metrics (topics v0 §3.3).
    scope = {"GET": "read"}

    async def get(self, request: HttpRequest, caller: Caller) -> Answer:
        found = topics.as_series(await topics.gather(by_topic=True))
        text = exposition.render([*found, *await _of_the_rest()])
        return Answer(text, content_type=exposition.CONTENT_TYPE)


async def _of_the_rest() -> list[Series]:
    """Return the series of everything but topics; none without Postgres, of which those of topics tell."""
    try:
        return [*await runs.series(), *await pipelines.series(), *await storage.series()]
    except psycopg.OperationalError:
        return []
