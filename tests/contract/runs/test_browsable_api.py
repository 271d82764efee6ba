"""design.md §9: a browser gets DRF's pages, with a form to post from."""

from __future__ import annotations

import re

import pytest

from apps.runs.models import Run
from tests.cast import client_for
from tests.factories import make_definition, make_run

PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def paths(db):
    make_definition("team.op")
    run = make_run()
    return {
        "GET": [
            "/definitions",
            "/definitions/team.op",
            "/runs",
            f"/runs/{run.id}",
            f"/runs/{run.id}/events",
            f"/runs/{run.id}/attempts",
            f"/runs/{run.id}/attempts/1",
            "/workers",
            "/health",
        ],
        "form": ["/definitions", "/runs", f"/runs/{run.id}/events"],
    }


@pytest.mark.django_db
def test_every_answer_is_also_a_page(paths):
    client = client_for()
    for path in paths["GET"]:
        answer = client.get(path, headers=PAGE)
        assert answer.status_code == 200, path
        assert answer["Content-Type"].startswith("text/html")
        assert "· Gyoza</title>" in answer.content.decode()


@pytest.mark.django_db
def test_pages_have_a_form_that_posts_json(paths):
    client = client_for()
    for path in paths["form"]:
        page = client.get(path, headers=PAGE).content.decode()
        assert re.search(r"<form[^>]*data-method=\"?POST|<form[^>]*method=\"POST\"", page), path
        assert 'value="application/json"' in page
        assert 'name="_content"' in page


@pytest.mark.django_db
def test_what_the_form_posts_is_answered_with_a_page(paths):
    # The form's script sends its content under its content type, as any client does.
    client = client_for()
    answer = client.post(
        "/runs", '{"command": ["true"]}', content_type="application/json", headers=PAGE
    )
    assert answer.status_code == 201
    assert answer["Content-Type"].startswith("text/html")
    assert Run.objects.filter(command=["true"]).count() == 2
    refused = client.post("/runs", "{}", content_type="application/json", headers=PAGE)
    assert refused.status_code == 400
    assert "is required" in refused.content.decode()


@pytest.mark.django_db
def test_a_person_of_the_staff_needs_no_key(owner, admin_user, paths):
    client = client_for()
    assert client.get("/runs", headers=PAGE).status_code == 401
    client.force_login(admin_user)
    assert client.get("/runs", headers=PAGE).status_code == 200


@pytest.mark.django_db
def test_pages_load_nothing_from_elsewhere(paths):
    page = client_for().get("/runs", headers=PAGE).content.decode()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", page)
