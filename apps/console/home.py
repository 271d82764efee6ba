from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponseRedirect
from django.urls import reverse

from apps.console.page import Page

if TYPE_CHECKING:
    from django.http import HttpRequest


class HomeView(Page):
    def get(self, request: HttpRequest) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("console:execution-list"))
