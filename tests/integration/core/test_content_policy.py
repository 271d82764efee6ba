"""What a browser may load and run for our pages, and that the pages stand it."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory

from apps.core.contentpolicy import HEADER, POLICY, ContentPolicyMiddleware
from apps.runs.states import RunState
from tests.factories import make_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(admin_user) -> Client:
    client = Client(headers={"Accept": "text/html"})
    client.force_login(admin_user)
    return client


@pytest.fixture
def pages() -> list[str]:
    run = make_run(RunState.COMPLETED)
    return [
        *("/admin/", "/admin/runs/run/", f"/admin/runs/run/{run.pk}/change/"),
        *(
            "/admin/access/apikey/add/",
            "/admin/topics/topic/",
            "/admin/definitions/definition/add/",
        ),
        *("/api/docs", "/runs", f"/runs/{run.pk}", "/definitions", "/workers", "/admin/nowhere/"),
    ]


class Scripts(HTMLParser):
    """Notes what a policy without nonces and 'unsafe-inline' keeps from running."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "script" and given.get("type", "module") != "application/json":
            source = given.get("src") or "in the page"
            if not source.startswith("/") or source.startswith("//"):
                self.refused.append(f"<script> {source}")
        for name, value in attrs:
            # `on…` and javascript: are the browser's; x-on: and @ are Alpine's.
            if name.startswith("on") or (value or "").startswith("javascript:"):
                self.refused.append(f"<{tag} {name}={value}>")


def directives(response) -> dict[str, str]:
    said = (one.strip().partition(" ") for one in response[HEADER].split(";"))
    return {name: value for name, _, value in said}


def test_every_page_has_a_policy(operator, pages):
    for path in pages:
        policy = directives(operator.get(path))
        assert policy["default-src"] == "'self'", path
        assert policy["object-src"] == policy["frame-ancestors"] == "'none'", path
        assert policy["base-uri"] == policy["form-action"] == "'self'", path
        assert "'unsafe-inline'" not in policy.get("script-src", ""), path


def test_only_the_admin_may_compile_what_stands_in_its_pages(operator, pages):
    for path in pages:
        is_admin = path.startswith("/admin/")
        assert ("'unsafe-eval'" in operator.get(path)[HEADER]) is is_admin, path


def test_no_page_needs_a_script_that_the_policy_refuses(operator, pages):
    for path in pages:
        scripts = Scripts()
        scripts.feed(operator.get(path).content.decode())
        assert scripts.refused == [], path


def test_the_login_has_one_too():
    assert "'unsafe-eval'" in Client().get("/admin/login/")[HEADER]


def test_json_has_none(operator):
    assert HEADER not in operator.get("/runs", headers={"Accept": "application/json"})


def test_a_view_may_be_stricter():
    def answer(policy: str = "") -> str:
        response = HttpResponse(headers={HEADER: policy} if policy else {})
        middleware = ContentPolicyMiddleware(lambda _: response)
        return str(middleware.process_response(RequestFactory().get("/x"), response)[HEADER])

    assert answer() == POLICY
    assert answer("sandbox") == "sandbox"
