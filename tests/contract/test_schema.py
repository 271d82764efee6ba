"""GET /api/schema: the description of the API, in YAML or JSON."""

from __future__ import annotations

from django.test import Client


def test_it_is_written_as_it_is_asked_for():
    assert Client().get("/api/schema").content.startswith(b"openapi: 3.1")
    assert Client().get("/api/schema?format=json").json()["openapi"].startswith("3.1")


def test_whatever_is_asked_for_an_error_is_json():
    answer = Client().get("/api/schema", HTTP_ACCEPT="image/png")
    assert (answer.status_code, answer.json()["error"]["code"]) == (406, "not_acceptable")
