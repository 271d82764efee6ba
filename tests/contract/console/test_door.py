"""Who gets into the console and how; whatever else is asked for, the answer is a page."""

from __future__ import annotations

import re
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client

from apps.access.models import AuditEntry
from apps.console.urls import urlpatterns
from apps.core.contentpolicy import HEADER, POLICY
from tests.contract.console.conftest import start
from tests.factories import make_run

pytestmark = pytest.mark.django_db

PASSWORD = "pw-Pw-1234"


@pytest.mark.parametrize("path", ["/", "/console"])
def test_a_browser_begins_at_the_console(path):
    answer = Client().get(path)
    assert (answer.status_code, answer["Location"]) == (302, "/console/")


@pytest.mark.parametrize("path", ["/console/", "/console/executions?tag=a&status=failed"])
def test_whoever_is_not_logged_in_is_led_to_the_login_and_back(path):
    answer = Client().get(path)
    assert answer.status_code == 302
    assert answer["Location"] == f"/admin/login/?next={quote(path)}"


@pytest.mark.parametrize("pattern", urlpatterns, ids=lambda pattern: str(pattern.pattern))
def test_every_path_asks_for_the_login(pattern):
    """Whatever it is, and by whatever method."""
    path = f"/console/{pattern.pattern}"
    for kind, value in (("uuid:run_id", str(uuid4())), ("path:deed", "trigger/stop")):
        path = path.replace(f"<{kind}>", value)
    path = re.sub(r"<\w+:\w+>", "one", path)
    for method in ("get", "post", "put", "delete"):
        answer = getattr(Client(), method)(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/admin/login/?next="), path


def test_after_the_login_a_button_leads_to_a_page():
    answer = Client().post("/console/workers/drain")
    assert answer["Location"] == "/admin/login/?next=/console/"


@pytest.mark.parametrize("path", ["/console/workers/drain", "/console/pipelines/p/trigger/stop"])
def test_a_button_is_no_page(operator, path):
    answer = operator.get(path)
    assert (answer.status_code, answer["Allow"]) == (405, "POST, OPTIONS")
    assert "This is no page" in answer.content.decode()


def test_a_cookie_that_spells_nul_is_of_no_session():
    """In quotes it may: Postgres takes no such text."""
    browser = Client(headers={"Cookie": rf'{settings.SESSION_COOKIE_NAME}="\000aaaaaaaaa"'})
    assert browser.get("/console/")["Location"] == "/admin/login/?next=/console/"


def test_who_is_not_of_the_staff_is_led_to_the_login(outsider):
    assert outsider.get("/console/executions")["Location"].startswith("/admin/login/?next=")


@pytest.mark.parametrize(
    ("login", "page"),
    [
        ("/admin/login/", "/console/"),
        ("/admin/login/?next=/console/executions", "/console/executions"),
    ],
)
def test_the_login_leads_on(login, page, django_user_model):
    django_user_model.objects.create_superuser("boss", password=PASSWORD)
    answer = Client().post(login, {"username": "boss", "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, page)


def test_a_slash_too_many_leads_to_the_page(operator):
    answer = operator.get("/console/executions/?tag=a%20b")
    assert (answer.status_code, answer["Location"]) == (302, "/console/executions?tag=a%20b")
    assert operator.get("/console/executions/?tag=a", follow=True).status_code == 200
    assert operator.get("/console//evil.example//")["Location"] == "/console//evil.example"


def test_the_first_page_is_the_overview(operator):
    assert "<h1>Overview</h1>" in operator.get("/console/").content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/console/nowhere",
        "/console/executions/nobody",
        f"/console/executions/{uuid4()}",
        f"/console/executions/{uuid4()}/files",
        "/console/executions/a%00b",
        "/console/executions/%FF",
        "/console/executions/<script>",
    ],
)
def test_what_is_not_there_is_a_page(operator, path):
    answer = operator.get(path)
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")
    assert "<script>" not in answer.content.decode()


@pytest.mark.parametrize(
    "query",
    ["status=odd", "tag=%00", "pipeline_id=%00", "older_than=x", "newer_than=%00"],
)
def test_a_bad_query_is_a_page(operator, query):
    answer = operator.get(f"/console/executions?{query}")
    assert answer.status_code == 400
    assert answer["Content-Type"].startswith("text/html")


def test_a_button_is_not_a_link(operator):
    row = start()
    for deed in ("cancel", "retry", "replay", "answer"):
        assert operator.get(f"/console/executions/{row.id}/{deed}").status_code == 405


def test_another_site_can_press_no_button(admin_user):
    row = start()
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(f"/console/executions/{row.id}/cancel").status_code == 403
    assert not AuditEntry.objects.filter(action="execution.cancel").exists()


def test_who_may_only_look_sees_no_button_and_can_press_none(looker):
    row = start()
    page = looker.get(f"/console/executions/{row.id}")
    assert page.status_code == 200
    assert 'action="/console/' not in page.content.decode()
    for deed in ("cancel", "retry", "replay", "answer"):
        assert looker.post(f"/console/executions/{row.id}/{deed}").status_code == 403
    assert not AuditEntry.objects.filter(action__startswith="execution.c").exists()


def test_pages_run_nothing_but_what_is_served_here(operator):
    row = start()
    run = make_run()
    paths = ("executions", f"executions/{row.id}", f"executions/{row.id}/files")
    for path in ("", *paths, "runs", f"runs/{run.id}", "pipelines", "pipelines/team.p", "nowhere"):
        answer = operator.get(f"/console/{path}")
        assert answer[HEADER] == POLICY
        said = answer.content.decode()
        assert "<style" not in said
        assert " style=" not in said
        assert " onclick" not in said
        assert said.count("<script") == said.count('<script type="module" src="/static/console/')


def test_pages_are_kept_by_nobody(operator):
    assert operator.get("/console/executions")["Cache-Control"] == "private, no-store"


def test_what_pages_load_is_there():
    names = (
        "console.css",
        "execution.js",
        "follow.js",
        "live.js",
        "looking.js",
        "run.js",
        "tree.js",
    )
    for name in (*(f"console/{one}" for one in names), "core/pieces.css"):
        assert finders.find(name), name
