"""runs.md §2: GET /health."""

from __future__ import annotations

import pytest

from tests import aio
from tests.asgi_client import get
from tests.cast import client_for


@pytest.mark.django_db
@pytest.mark.parametrize("key", [None, "wrong"])
def test_it_needs_no_key(owner, key):
    answer = client_for(key).get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_a_probe_from_inside_needs_no_tls(settings):
    settings.SECURE_SSL_REDIRECT = True
    assert client_for().get("/health").status_code == 200
    assert client_for().get("/runs").status_code == 301


@pytest.mark.django_db(transaction=True)
def test_a_target_that_is_no_path_is_answered_like_one_that_is_unknown():
    """RFC 9112 §3.2.4: `OPTIONS *` asks about the server itself."""
    status, body = aio.run(get("*"))
    assert (status, body["error"]["code"]) == (404, "not_found")
