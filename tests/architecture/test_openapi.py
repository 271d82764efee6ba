"""The committed OpenAPI document: current, complete, and shown by /api/docs without help from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from django.urls import URLResolver, get_resolver

from apps.core.dataplane import NothingView

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.yaml"
# Pages for people, and the document itself.
NOT_API = ("admin/", "api/", "console", "static/")


def served_paths(resolver: URLResolver | None = None, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for pattern in (resolver or get_resolver()).url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found |= served_paths(pattern, route)
        elif issubclass(getattr(pattern.callback, "view_class", object), NothingView):
            continue
        elif route and not route.startswith(NOT_API):
            found.add("/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route))
    return found


def test_it_is_not_stale(tmp_path):
    fresh = tmp_path / "openapi.yaml"
    call_command("spectacular", file=str(fresh), validate=True, fail_on_warn=True)
    assert DOCUMENT.read_text("utf-8") == fresh.read_text("utf-8"), (
        "run: manage.py spectacular --file docs/reference/openapi.yaml"
    )


def test_no_value_fits_two_of_a_choice():
    """`oneOf` of anything and null refuses null, which is what a client would check an answer with."""
    assert not re.search(r"oneOf:\n\s*- \{\}\n", DOCUMENT.read_text("utf-8"))


def test_a_deletion_that_answers_says_so():
    """Else the document promises 204 without content."""
    paths = yaml.safe_load(DOCUMENT.read_text("utf-8"))["paths"]
    silent = [
        url
        for url, told in paths.items()
        if "204" in told.get("delete", {"responses": {}})["responses"]
    ]
    assert silent == []


def test_errors_are_described_in_the_dialect_of_their_path():
    for url, told in yaml.safe_load(DOCUMENT.read_text("utf-8"))["paths"].items():
        wanted = "V1Problem" if url.startswith("/api/v1/") else "Problem"
        found = [one["responses"]["default"]["$ref"] for one in told.values()]
        assert set(found) == {f"#/components/responses/{wanted}"}, url


def test_every_url_is_in_it():
    assert served_paths() - set(yaml.safe_load(DOCUMENT.read_text("utf-8"))["paths"]) == set()


@pytest.mark.django_db
def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script():
    client = Client()
    page = client.get("/api/docs").content.decode()
    assert re.findall(r"<script[^>]*>", page)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    for asset in re.findall(r"(?:src|href)=[\"']([^\"']+)", page):
        answer = client.get(asset)
        assert answer.status_code == 200, asset
        answer.close()


@pytest.mark.django_db
def test_the_document_is_served():
    answer = Client().get("/api/schema", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1")


def test_whatever_creates_takes_an_idempotency_key():
    """runs.md §2."""
    paths = yaml.safe_load(DOCUMENT.read_text("utf-8"))["paths"]
    creating = {
        url: told["post"]
        for url, told in paths.items()
        if "201" in told.get("post", {}).get("responses", {})
    }
    assert "/runs" in creating
    for url, told in creating.items():
        assert "Idempotency-Key" in [one.get("name") for one in told["parameters"]], url
