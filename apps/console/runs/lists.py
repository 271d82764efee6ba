from __future__ import annotations

from typing import TYPE_CHECKING

from apps.console.page import Page, turning
from apps.core.api.parameters import Parameters
from apps.runs import listing, pages
from apps.runs.listing import RunFilter
from apps.runs.states import RunState

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PAGE = 50


class RunListView(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        """Show runs, newest first, a page at a time from one to the next."""
        query = Parameters(request.GET)
        chosen = {name: query.text(name) or None for name in ("op", "topic", "state")}
        if chosen["state"] not in {None, *RunState}:
            query.fail("state", f"must be one of {', '.join(RunState)}")
        execution = query.uuid("execution_id") if request.GET.get("execution_id") else None
        older, newer = query.uuid("older_than"), query.uuid("newer_than")
        query.finish()
        rows, has_more = listing.runs_page(
            caller=self.caller,
            chosen=RunFilter(
                states=(RunState(chosen["state"]),) if chosen["state"] else (),
                op_definition=chosen["op"],
                topic=chosen["topic"],
                execution_id=execution,
            ),
            limit=PAGE,
            starting_after=None if newer else older,
            ending_before=newer,
        )
        return self.shown(
            "console/runs/list.html",
            {
                "here": "runs",
                "listed": [(row, pages.work_of(row)) for row in rows],
                "chosen": {**chosen, "execution_id": execution},
                "states": list(RunState),
                **turning(older=older, newer=newer, has_more=has_more),
            },
        )
