"""topics v0 §22: every endpoint of the index answers, and no other method does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

INDEX = {
    "/v0/topics/t": "PUT GET DELETE POST",
    "/v0/topics": "GET",
    "/v0/topics/t/diff": "POST",
    "/v0/topics/t/delete": "POST",
    "/v0/routers/r": "PUT GET DELETE",
    "/v0/routers": "GET",
    "/v0/watch": "POST",
    "/v0/watch/wid_0": "GET",
    "/v0/topics/q/claim": "POST",
    "/v0/topics/q/ack": "POST",
    "/v0/topics/q/nack": "POST",
    "/v0/topics/q/extend": "POST",
    "/v0/topics/q/work": "GET",
    "/v0/ws": "GET",
    "/v0/health": "GET",
    "/healthz": "GET",
    "/v0/ready": "GET",
    "/readyz": "GET",
    "/v0/metrics": "GET",
}
METHODS = {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"}


@pytest.mark.parametrize("path", INDEX)
def test_the_methods_of_the_index_are_served_and_no_others(api: Api, path: str):
    served = set(INDEX[path].split())
    for method in served:
        answer = api.call(method, path)
        assert answer.status_code not in {405, 500}
        # A watch id that is unknown is "not found" by its own rule (§17.3).
        if not path.startswith("/v0/watch/"):
            assert answer.status_code != 404 or answer.json()["error"]["code"] != "not_found"
    for method in METHODS - served:
        refused(api.call(method, path), 405, "method_not_allowed")


@pytest.mark.parametrize("path", INDEX)
def test_head_is_get_without_a_body(api: Api, path: str):
    if "GET" in INDEX[path].split():
        answer = api.call("HEAD", path)
        assert answer.status_code == api.get(path).status_code
        assert answer.content == b""
    else:
        assert api.call("HEAD", path).status_code == 405


@pytest.mark.parametrize("path", INDEX)
def test_a_slash_at_the_end_is_another_path(api: Api, path: str):
    """§2.1: exact."""
    answer = api.get(f"{path}/")
    assert answer.status_code == 404
    assert "text/html" not in answer.headers["content-type"]
