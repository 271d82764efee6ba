"""What every page of the console is: for the staff, as HTML, whatever happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.generic import View

from apps.access.auth import person_of
from apps.core.api import exception_handler
from apps.core.api.parameters import Parameters
from apps.core.api.scope import PUBLIC
from apps.core.errors import GyozaError, MethodNotAllowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from apps.access.auth import Caller

JSON = Any
# Characters of a reason or a comment.
MOST_TEXT = 10_000


class Page(View):
    """A page that asks for the admin's login, and tells every refusal as a page."""

    caller: Caller

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if not (user.is_active and getattr(user, "is_staff", False)):
            # A button leads back to no page of its own.
            is_page = request.method in {"GET", "HEAD"}
            next_page = request.get_full_path() if is_page else reverse("console:home")
            return redirect_to_login(next_page, login_url=reverse("admin:login"))
        self.caller = person_of(request)
        try:
            self.caller.require("read")
            answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        except GyozaError as exc:
            return refused(request, exc)
        # What is shown has a moment and a reader.
        answer.headers.setdefault("Cache-Control", "private, no-store")
        return answer

    def http_method_not_allowed(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        """Say so on a page, like any refusal."""
        allowed = [name.upper() for name in self.http_method_names if hasattr(self, name)]
        raise MethodNotAllowed("This is no page, but what a button does.", allowed=allowed)

    def shown(self, template: str, context: dict[str, Any]) -> HttpResponse:
        """Render a page, or a part of one."""
        return render(self.request, template, {**context, "may_operate": self.caller.may("write")})


class Made(NamedTuple):
    """What is told of something new, and its page."""

    message: str
    page: str


class Act(Page):
    """Something an operator does with a button: it calls one service and leads back to a page."""

    http_method_names = ["post", "options"]

    def act(self, change: Callable[[], str | Made], *, back: str) -> HttpResponseRedirect:
        """Do it and tell what became of it, there if something was made; a refusal is told on the page it came from."""
        self.caller.require("write")
        try:
            done = change()
        except GyozaError as exc:
            messages.error(self.request, exc.message)
            return HttpResponseRedirect(back)
        message, page = done if isinstance(done, Made) else (done, back)
        messages.success(self.request, message)
        return HttpResponseRedirect(page)


class RootView(View):
    """`/` and `/console`: where people begin who know no path."""

    scope = {"GET": PUBLIC}
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("console:home"))


class NothingHere(Page):
    """Any other path below the console's; one that ends in a slash may be there without it."""

    def get(self, request: HttpRequest, **_: str) -> HttpResponse:
        if request.path.endswith("/"):
            query = request.META["QUERY_STRING"]
            return HttpResponseRedirect(
                quote(request.path.rstrip("/")) + (f"?{query}" if query else "")
            )
        return render(
            request,
            "console/refused.html",
            {"status": 404, "message": "There is no such page."},
            status=404,
        )


def given(request: HttpRequest, name: str, *, most: int = MOST_TEXT) -> str:
    """Read a text of a form. Raises Invalid."""
    form = Parameters(request.POST)
    text = (form.text(name) or "").strip()
    if len(text) > most:
        form.fail(name, f"must be at most {most} characters")
    form.finish()
    return text


def laid_out(**values: JSON) -> list[tuple[str, str]]:
    """Return JSON by name as people read it; what is empty is left out."""
    return [
        (name, json.dumps(value, indent=2, ensure_ascii=False))
        for name, value in values.items()
        if value not in ({}, None, "")
    ]


def turning(*, older: object, newer: object, has_more: bool) -> dict[str, bool]:
    """Say whether there are pages before and behind this one, of a list that is read from a row on either way."""
    return {
        "has_newer": has_more if newer else bool(older),
        "has_older": has_more or bool(newer),
    }


def refused(request: HttpRequest, error: GyozaError) -> HttpResponse:
    """Answer a refusal with a page."""
    problem = exception_handler.problem_of(error) or exception_handler.internal()
    answer = render(
        request,
        "console/refused.html",
        {"status": problem.status, "message": problem.message},
        status=problem.status,
    )
    for name, value in problem.headers.items():
        answer[name] = value
    return answer
