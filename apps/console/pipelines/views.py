from __future__ import annotations

from typing import TYPE_CHECKING

from apps.console.page import Page
from apps.core.api.parameters import Parameters
from apps.pipelines import pages, queries

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PAGE = 50


class PipelineListView(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        """Show pipelines by id, a page at a time."""
        query = Parameters(request.GET)
        after, name, event = query.text("after"), query.text("name"), query.text("event")
        query.finish()
        rows, has_more = queries.pipelines_page(
            caller=self.caller, name=name or None, event=event or None, limit=PAGE, after=after
        )
        return self.shown(
            "console/pipelines/list.html",
            {
                "here": "pipelines",
                "listed": rows,
                "chosen": {"name": name, "event": event},
                "is_first": not after,
                "has_more": has_more,
            },
        )


class PipelineView(Page):
    def get(self, request: HttpRequest, pipeline_id: str) -> HttpResponse:
        """Show a pipeline: what it does, what starts it, what it has started."""
        query = Parameters(request.GET)
        version = query.text("version")
        query.finish()
        shown = pages.pipeline(pipeline_id=pipeline_id, version=version, caller=self.caller)
        return self.shown(
            "console/pipelines/page.html", {"here": "pipelines", "row": shown.row, "shown": shown}
        )
