from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.urls import reverse

from apps.console.executions import gantt
from apps.console.page import Page, laid_out
from apps.core import clock
from apps.pipelines import pages, queries
from apps.pipelines.states import FINAL, ExecutionStatus
from apps.storage import pages as storage
from apps.storage import queries as spaces

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class ExecutionView(Page):
    def get(self, request: HttpRequest, execution: str) -> HttpResponse:
        """Show an execution: how far it is, what it has stored, what may be done with it."""
        row = queries.get_execution(named=execution, caller=self.caller)
        whole = pages.whole(row)
        shown = whole.shown()
        bars = gantt.bars(
            [(one.row.started_at, one.row.completed_at) for one in shown],
            began=row.created_at,
            ended=row.completed_at or clock.now(),
        )
        context = {
            "here": "executions",
            "row": row,
            "phase": pages.phase(row),
            "started_by": pages.started_by(row),
            "is_final": row.status in FINAL,
            "is_over": row.status in FINAL or row.status == ExecutionStatus.INTERRUPTED,
            "may_retry": row.status in _RETRIED,
            "graph": whole.graph,
            "stages": list(zip(shown, bars, strict=True)),
            "space": spaces.find_space(named=str(row.id), caller=self.caller),
            "texts": laid_out(
                Outputs=row.outputs,
                Inputs=row.inputs,
                Trigger=row.trigger and json.loads(row.trigger),
                Metadata=row.metadata,
            ),
        }
        return self.shown("console/executions/page.html", context)


class FilesView(Page):
    def get(self, request: HttpRequest, execution: str) -> HttpResponse:
        """Show a level of what an execution has stored, or an object; with `pane`, without the page around it."""
        row = queries.get_execution(named=execution, caller=self.caller)
        shown = storage.show(execution=str(row.id), asked=request.GET.dict(), caller=self.caller)
        page = reverse("console:execution", args=[row.id])
        context = {"here": "executions", "row": row, **shown, "execution_page": page}
        if found := shown.get("found"):
            context["content_url"] = f"/api/v1/storage/objects/{row.id}/{quote(found.name)}"
        if "pane" in request.GET:
            return self.shown("console/executions/pane.html", context)
        return self.shown("console/executions/files.html", context)


# Of what has ended, what may go on.
_RETRIED = {ExecutionStatus.FAILED, ExecutionStatus.CANCELLED, ExecutionStatus.INTERRUPTED}
