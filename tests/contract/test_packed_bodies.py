"""A body with a Content-Encoding: nobody unpacks it, so it is refused at every door (RFC 9110 §8.4, §15.5.16)."""

from __future__ import annotations

import gzip
from uuid import uuid4

import pytest

from tests.object_client import Answer, call

pytestmark = pytest.mark.django_db(transaction=True)

DOORS = [
    ("POST", "/v0/topics/t"),
    ("POST", "/runs"),
    ("POST", "/api/v1/pipelines/"),
    ("PUT", f"/api/v1/storage/objects/{uuid4()}/s/a"),
]


AT_EACH = pytest.mark.parametrize(
    ("method", "door"), DOORS, ids=["topics", "runs", "pipelines", "objects"]
)


def send(method: str, door: str, content: bytes, coding: str) -> Answer:
    return call(method, door, content, content_type="application/json", content_encoding=coding)


@AT_EACH
def test_it_is_refused(method, door):
    answer = send(method, door, gzip.compress(b"{}"), "gzip")
    body = answer.json()
    code = body["error_code"] if door.startswith("/api/v1/") else body["error"]["code"]
    assert (answer.status, code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["br", "identity, gzip", "x"])
def test_so_is_any_other(coding):
    assert send("POST", "/v0/topics/t", b"{}", coding).status == 415


@AT_EACH
def test_identity_is_none(method, door):
    assert send(method, door, b"{}", "Identity").status in {201, 400, 404, 422}
