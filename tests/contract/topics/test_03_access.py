"""topics v0 §3: keys, scopes and prefixes, as they are met under /v0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cast import make_key
from tests.contract.topics.conftest import RECORDS, refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


def test_without_a_key_nothing_is_told(api: Api):
    """§2.6: authentication comes before routing, body and everything else."""
    make_key()
    for method, path in (
        ("POST", "/v0/topics/t"),
        ("POST", "/v0/topics/t/diff"),
        ("GET", "/v0/nothing"),
        ("PATCH", "/v0/topics/t"),
    ):
        answer = api.call(method, path)
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        refused(api.call(method, path, key="wrong"), 401, "unauthorized")
        refused(api.call(method, f"{path}?token=wrong"), 401, "unauthorized")


def test_a_query_token_counts_on_streams_only(api: Api):
    """§3.2."""
    secret = make_key()
    refused(api.post(f"/v0/topics/t/diff?token={secret}", {}), 401, "unauthorized")


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("POST", "/v0/topics/team.t", RECORDS, "write"),
        ("POST", "/v0/topics/team.t/diff", {}, "read"),
        ("PATCH", "/v0/topics/team.t", None, "write"),
        ("GET", "/v0/topics/team.t/nothing", None, "write"),
        ("GET", "/v0/topics/team.t/diff", None, "write"),
    ],
)
def test_each_route_needs_its_scope(api: Api, method: str, path: str, body: Any, scope: str):
    """§3.3."""
    api.write("team.t", 1)
    others = "+".join({"read", "write", "delete", "admin"} - {scope})
    refused(api.call(method, path, body, key=make_key("no", others)), 403, "forbidden")
    assert api.call(method, path, body, key=make_key("yes", scope)).status_code != 403


def test_a_name_outside_the_prefixes_is_forbidden(api: Api):
    """§3.4, ⚑9: decoded first, compared byte for byte, before anything is looked up."""
    key = make_key("someone", "read+write", "tenant:", "team.")
    assert api.post("/v0/topics/tenant%3Ax", RECORDS, key=key).status_code == 201
    assert api.post("/v0/topics/tenant:x/diff", {}, key=key).status_code == 200
    refused(api.post("/v0/topics/Tenant:x", RECORDS, key=key), 403, "forbidden")
    refused(api.post("/v0/topics/absent/diff", {}, key=key), 403, "forbidden")
    refused(api.post("/v0/topics/absent/diff", b"{", key=key), 403, "forbidden")


def test_a_config_needs_admin_while_the_topic_is_missing(api: Api):
    """§3.3."""
    writer = make_key("writer", "write")
    body = {**RECORDS, "config": {"ttl_ms": 1}}
    assert refused(api.post("/v0/topics/t", body, key=writer), 403, "forbidden") == {"topic": "t"}
    # §12: before the records are judged.
    refused(api.post("/v0/topics/t", {**body, "records": []}, key=writer), 403, "forbidden")
    admin = make_key("admin", "write+admin")
    assert api.post("/v0/topics/t", body, key=admin).status_code == 201
    assert api.post("/v0/topics/t", body, key=writer).status_code == 200
