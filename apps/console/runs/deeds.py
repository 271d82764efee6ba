"""What operators do with runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse

from apps.console.page import Act, given
from apps.runs.services import control

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponseRedirect


class CancelView(Act):
    def post(self, request: HttpRequest, run_id: UUID) -> HttpResponseRedirect:
        reason = given(request, "reason")

        def change() -> str:
            control.cancel_run(run_id=run_id, reason=reason, caller=self.caller)
            return "Cancelled, or asked to stop."

        return self.act(change, back=_page(run_id))


class RetryView(Act):
    def post(self, request: HttpRequest, run_id: UUID) -> HttpResponseRedirect:
        def change() -> str:
            control.retry_run(run_id=run_id, caller=self.caller)
            return "Queued again."

        return self.act(change, back=_page(run_id))


def _page(run_id: UUID) -> str:
    return reverse("console:run", args=[run_id])
