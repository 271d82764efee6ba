from __future__ import annotations

from typing import TYPE_CHECKING

from apps.console.page import Page
from apps.core.api.parameters import Parameters
from apps.topics import pages

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PAGE = 50


class TopicListView(Page):
    def get(self, request: HttpRequest) -> HttpResponse:
        """Show topics by name, a page at a time."""
        query = Parameters(request.GET)
        prefix, after = query.text("prefix") or "", query.text("after") or ""
        query.finish()
        rows, has_more = pages.listed(prefix=prefix, after=after, limit=PAGE)
        context = {
            "here": "topics",
            "listed": [(row, pages.last_write(row)) for row in rows],
            "prefix": prefix,
            "is_first": not after,
            "has_more": has_more,
        }
        return self.shown("console/topics/list.html", context)
