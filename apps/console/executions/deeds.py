"""What operators do with executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse

from apps.console.page import Act, Made, given
from apps.pipelines import services

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseRedirect


class CancelView(Act):
    def post(self, request: HttpRequest, execution: str) -> HttpResponseRedirect:
        reason = given(request, "reason")

        def change() -> str:
            services.cancel_execution(named=execution, reason=reason, caller=self.caller)
            return "Cancelled, or asked to stop."

        return self.act(change, back=_page(execution))


class RetryView(Act):
    def post(self, request: HttpRequest, execution: str) -> HttpResponseRedirect:
        def change() -> str:
            services.retry_execution(named=execution, caller=self.caller)
            return "Under way again from its failed steps."

        return self.act(change, back=_page(execution))


class ReplayView(Act):
    def post(self, request: HttpRequest, execution: str) -> HttpResponseRedirect:
        """Start a replay, and lead to it."""
        from_stage, tag = given(request, "from_stage"), given(request, "tag")

        def change() -> Made:
            child = services.replay_execution(
                named=execution, from_stage=from_stage, tag=tag or None, caller=self.caller
            )
            return Made(f"This is a replay from {from_stage} on.", _page(str(child.id)))

        return self.act(change, back=_page(execution))


class AnswerView(Act):
    def post(self, request: HttpRequest, execution: str) -> HttpResponseRedirect:
        stage, comment = given(request, "stage"), given(request, "comment")
        approved = request.POST.get("answer") == "yes"

        def change() -> str:
            services.approve_stage(
                named=execution,
                stage_name=stage,
                approved=approved,
                comment=comment,
                caller=self.caller,
            )
            return f"{stage}: {'approved' if approved else 'rejected'}."

        return self.act(change, back=_page(execution))


def _page(execution: str) -> str:
    return reverse("console:execution", args=[execution])
