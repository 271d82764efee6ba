from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.urls import reverse

from apps.console.page import Page
from apps.console.topics import chart
from apps.console.topics.draft import Draft
from apps.core.api import exception_handler
from apps.core.errors import Forbidden, GyozaError, NotFound
from apps.topics import pages, publishing

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class TopicView(Page):
    def get(self, request: HttpRequest, topic: str) -> HttpResponse:
        """Show a topic: its figures, how much is written to it, and its records as they come."""
        return self._page(topic, Draft())

    def post(self, request: HttpRequest, topic: str) -> HttpResponse:
        """Write a record; what is wrong with it is shown beside the field, with all that was typed."""
        self.caller.require("write")
        draft = Draft(request)
        try:
            seq = publishing.publish(topic=topic, typed=draft.record(), caller=self.caller)
        except (Forbidden, NotFound):
            raise
        except GyozaError as exc:
            draft.refused(exc)
            answer = self._page(topic, draft)
            answer.status_code = exception_handler.status_of(exc)
            return answer
        messages.success(request, f"Written as seq {seq}.")
        return HttpResponseRedirect(reverse("console:topic", args=[topic]))

    def _page(self, topic: str, draft: Draft) -> HttpResponse:
        shown = pages.topic(topic)
        context = {
            "here": "topics",
            "row": shown.row,
            "shown": shown,
            "charts": chart.charts(shown.throughput),
            "rates": shown.throughput.parts[::-1],
            "draft": draft,
        }
        return self.shown("console/topics/page.html", context)
