"""Workers: who is there, what they are at, and whether they take more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse

from apps.console.page import Act, Page, given
from apps.runs import queries
from apps.runs.services import workers

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, HttpResponseRedirect


class WorkerListView(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the workers with what they hold."""
        context = {"here": "workers", "workers": queries.workers(self.caller), "is_whole": True}
        return self.shown("console/workers/list.html", context)


class DrainView(Act):
    def post(self, request: HttpRequest) -> HttpResponseRedirect:
        worker = given(request, "worker")

        def change() -> str:
            workers.drain_worker(worker_id=worker, caller=self.caller)
            return f"{worker} finishes what it holds, and takes no more."

        return self.act(change, back=reverse("console:worker-list"))


class ResumeView(Act):
    def post(self, request: HttpRequest) -> HttpResponseRedirect:
        worker = given(request, "worker")

        def change() -> str:
            workers.resume_worker(worker_id=worker, caller=self.caller)
            return f"{worker} takes runs again."

        return self.act(change, back=reverse("console:worker-list"))
