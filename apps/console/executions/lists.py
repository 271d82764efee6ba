from __future__ import annotations

from typing import TYPE_CHECKING

from apps.console.page import Page, turning
from apps.core.api.parameters import Parameters
from apps.pipelines import pages, queries
from apps.pipelines.states import ExecutionStatus

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PAGE = 50


class ExecutionListView(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        """Show executions, newest first, a page at a time from one to the next."""
        query = Parameters(request.GET)
        chosen = {name: query.text(name) or None for name in ("pipeline_id", "status", "tag")}
        if chosen["status"] not in {None, *ExecutionStatus}:
            query.fail("status", f"must be one of {', '.join(ExecutionStatus)}")
        older, newer = query.uuid("older_than"), query.uuid("newer_than")
        query.finish()
        rows, has_more = queries.executions_beside(
            caller=self.caller, limit=PAGE, older_than=older, newer_than=newer, **chosen
        )
        return self.shown(
            "console/executions/list.html",
            {
                "here": "executions",
                "listed": pages.listed(rows),
                "chosen": chosen,
                "statuses": list(ExecutionStatus),
                **turning(older=older, newer=newer, has_more=has_more),
            },
        )
