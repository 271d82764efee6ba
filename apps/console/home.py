from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from apps.console.page import Page
from apps.core import clock
from apps.pipelines import pages as pipelines
from apps.pipelines import queries as executions
from apps.pipelines.states import ExecutionStatus
from apps.runs import listing, pages, queries
from apps.runs.listing import RunFilter
from apps.runs.states import RunState
from apps.topics import pages as topics

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

# Rows of each list.
MOST = 5
# What counts as of late.
LATELY = timedelta(minutes=1)


class OverviewView(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        """Show how things stand: what is under way, what has failed of late, who works, what is behind."""
        caller, now = self.caller, clock.now()
        running, failed = (
            executions.executions_beside(caller=caller, status=status, limit=MOST)[0]
            for status in (ExecutionStatus.RUNNING, ExecutionStatus.FAILED)
        )
        listed = pipelines.listed([*running, *failed])
        bad_runs, _ = listing.runs_page(
            caller=caller, chosen=RunFilter(states=(RunState.FAILED,)), limit=MOST
        )
        return self.shown(
            "console/overview.html",
            {
                "here": "overview",
                "runs": pages.under_way(),
                "executions": pipelines.under_way(),
                "new_runs": pages.lately(now - LATELY),
                "new_executions": pipelines.lately(now - LATELY),
                "most": pipelines.MOST_COUNTED,
                "written": topics.records_ever(),
                "now_ms": clock.milliseconds(now),
                "workers": queries.workers(caller),
                "behind": pipelines.behind(caller=caller),
                "running": listed[: len(running)],
                "failed": listed[len(running) :],
                "failed_runs": [(row, pages.work_of(row)) for row in bad_runs],
            },
        )
