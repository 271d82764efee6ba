"""A body with a Content-Encoding: nobody unpacks it, so it is refused at every door (RFC 9110 §8.4, §15.5.16)."""

from __future__ import annotations

import gzip
from uuid import uuid4

import pytest

from tests.object_client import call

pytestmark = pytest.mark.django_db(transaction=True)

DOORS = [
    ("POST", "/v0/topics/t"),
    ("POST", "/runs"),
    ("POST", "/api/v1/pipelines/"),
    ("PUT", f"/api/v1/storage/objects/{uuid4()}/s/a"),
]


@pytest.mark.parametrize(("method", "door"), DOORS, ids=["topics", "runs", "pipelines", "objects"])
@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
def test_it_is_refused(method, door, coding):
    answer = call(
        method, door, gzip.compress(b"{}"), content_encoding=coding, content_type="application/json"
    )
    body = answer.json()
    code = body["error_code"] if door.startswith("/api/v1/") else body["error"]["code"]
    assert (answer.status, code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(("method", "door"), DOORS, ids=["topics", "runs", "pipelines", "objects"])
def test_identity_is_none(method, door):
    assert call(
        method, door, b"{}", content_encoding="Identity", content_type="application/json"
    ).status in {201, 400, 404, 422}
