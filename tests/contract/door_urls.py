"""URLs of views that only the tests of the control plane's door use."""

from __future__ import annotations

from typing import Any

from django.db import OperationalError
from django.urls import path
from rest_framework.response import Response

from apps.core import errors
from apps.core.api.scope import ANY, PUBLIC
from apps.core.api.views import ApiView
from gyoza_site import urls


class EchoView(ApiView):
    scope = {"GET": "read", "POST": "read+write"}

    def get(self, request: Any, name: str = "") -> Response:
        return Response({"caller": str(request.auth), "name": name})

    def post(self, request: Any, name: str = "") -> Response:
        return Response({"caller": str(request.auth), "body": request.data}, 201)


class OwnRunView(ApiView):
    scope = "write"
    run_token = True

    def post(self, request: Any) -> Response:
        return Response({"run": request.auth.run_id, "attempt": request.auth.attempt})


class AnyView(ApiView):
    scope = ANY

    def get(self, request: Any) -> Response:
        return Response({"caller": str(request.auth)})


class PublicView(ApiView):
    scope = PUBLIC

    def get(self, request: Any) -> Response:
        return Response({"status": "ok"})


class ForgetfulView(ApiView):
    def get(self, request: Any) -> Response:
        return Response({"secret": True})


class BrokenView(ApiView):
    scope = ANY

    def get(self, request: Any, how: str) -> Response:
        raise {
            "bug": KeyError("secret"),
            "database": OperationalError("secret"),
            "busy": errors.Throttled(retry_after=3),
        }[how]


def broken_page(request: Any) -> Any:
    raise OperationalError("secret")


echo = EchoView.as_view()
broken = BrokenView.as_view()
urlpatterns = [
    path("door/echo", echo),
    path("door/echo/<str:name>", echo),
    path("api/v1/door/echo", echo),
    path("door/own", OwnRunView.as_view()),
    path("door/any", AnyView.as_view()),
    path("door/public", PublicView.as_view()),
    path("door/forgetful", ForgetfulView.as_view()),
    path("door/broken/<how>", broken),
    path("api/v1/door/broken/<how>", broken),
    path("console/broken", broken_page),
    path("door/broken-outside-of-drf", broken_page),
    *urls.urlpatterns,
]
handler400 = urls.handler400
handler403 = urls.handler403
handler404 = urls.handler404
handler500 = urls.handler500
