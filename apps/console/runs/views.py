from __future__ import annotations

from typing import TYPE_CHECKING

from apps.console.page import Page, laid_out
from apps.runs import pages, queries
from apps.runs.states import FINAL, RunState

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

# Of the log, what is there when the page comes; the rest is streamed.
LOG_BYTES = 64 * 1024


class RunView(Page):
    def get(self, request: HttpRequest, run_id: UUID) -> HttpResponse:
        """Show a run: how far it is, what happened to it, what it says."""
        row = queries.get_run(run_id=run_id, caller=self.caller)
        state = RunState(row.state)
        context = {
            "here": "runs",
            "row": row,
            "work": pages.work_of(row),
            "is_final": state in FINAL,
            "may_retry": state in {RunState.FAILED, RunState.CANCELLED},
            "timeline": pages.timeline(row),
            "attempts": pages.attempts(row),
            "earlier": range(1, row.current_attempt),
            "log": queries.log_tail(row, length=LOG_BYTES),
            "texts": laid_out(Outputs=row.outputs, Inputs=row.inputs, Metadata=row.metadata),
        }
        return self.shown("console/runs/page.html", context)
