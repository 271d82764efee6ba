"""topics v0 §2 (HTTP conventions) and §3 (authentication): what holds for every path under /v0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cast import make_key
from tests.contract.topics.conftest import refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

RECORDS = {"records": [{"data": 1}]}


@pytest.mark.parametrize(
    "path",
    [
        "/v0",
        "/v0/",
        "/v0/nothing",
        "/v0/topics/t/",
        "/v0/topics/t/nothing",
        "/v0/topics/t/diff/",
        "/v0/TOPICS/t",
        "/v0/topics/a%2Fb",
    ],
)
def test_an_unknown_path_is_not_found(api: Api, path: str):
    """§2.1."""
    for method in ("GET", "POST", "PUT", "DELETE"):
        refused(api.call(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/v0/topics/t"), ("GET", "/v0/topics/t/diff"), ("DELETE", "/v0/topics/t/diff")],
)
def test_a_wrong_method_is_not_allowed(api: Api, method: str, path: str):
    refused(api.call(method, path), 405, "method_not_allowed")


def test_a_refused_method_names_those_that_there_are(api: Api):
    """RFC 9110 §15.5.6."""
    assert api.call("POST", "/events").headers["allow"] == "GET"
    assert api.call("GET", "/v0/topics/t/diff").headers["allow"] == "POST"


def test_a_body_over_the_limit_is_refused_before_it_is_parsed(api: Api, settings):
    settings.GYOZA_BODY_LIMITS = {**settings.GYOZA_BODY_LIMITS, "/v0/": 100}
    refused(api.post("/v0/topics/t", b"{" * 101), 413, "payload_too_large")
    refused(
        api.post("/v0/topics/t", b"{" * 101, content_type="text/plain"), 413, "payload_too_large"
    )
    refused(api.post("/v0/topics/t", b"{" * 100), 400, "invalid_request")


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(api: Api, settings):
    settings.GYOZA_BODY_LIMITS = {**settings.GYOZA_BODY_LIMITS, "/v0/": 100}
    sent: list[int] = []

    async def endless() -> Any:
        while len(sent) < 1000:
            sent.append(1)
            yield b"{" * 30

    async def send() -> Any:
        return await api._client.post(
            "/v0/topics/t", content=endless(), headers={"content-type": "application/json"}
        )

    refused(api.run(send()), 413, "payload_too_large")
    assert len(sent) <= 5


def test_a_megabyte_is_the_limit_elsewhere(api: Api):
    answer = api.post("/runs", b" " * (1024 * 1024 + 1))
    refused(answer, 413, "payload_too_large")


def test_a_bug_is_internal_and_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch):
    from apps.topics import queries

    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(queries, "read_records", broken)
    answer = api.post("/v0/topics/t/diff", {})
    refused(answer, 500, "internal")
    assert "secret" not in answer.text


def test_without_postgres_it_says_so(api: Api, monkeypatch: pytest.MonkeyPatch):
    import psycopg

    from apps.core import asyncdb

    def away() -> Any:
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(asyncdb, "connection", away)
    answer = api.post("/v0/topics/t/diff", {})
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    refused(api.post("/v0/topics/t", RECORDS), 503, "unavailable")


def test_an_answer_names_its_request(api: Api):
    assert (
        api.post("/v0/topics/t/diff", {}, X_Correlation_ID="abc-1").headers["x-correlation-id"]
        == "abc-1"
    )
    assert api.get("/v0/nothing").headers["x-correlation-id"]


# --- §3 ------------------------------------------------------------------------------------------


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


def test_a_key_may_have_so_many_requests_at_once(api: Api, settings, redis: object):
    """§4.2, ⚑3."""
    from tests.contract.topics.test_13_diff import waits_on

    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    api.write("t", 1)
    key, other = make_key("one", "read+write"), make_key("two", "read")
    waiting = api.begin("POST", "/v0/topics/t/diff", {"from_seq": 1, "wait_ms": 30_000}, key=key)
    waits_on(api, "t")
    answer = api.post("/v0/topics/t/diff", {}, key=key)
    assert refused(answer, 429, "throttled") == {"limit": "max_inflight_per_key", "max": 1}
    assert answer.headers["retry-after"] == "1"
    assert api.post("/v0/topics/t/diff", {}, key=other).status_code == 200
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 2
    api.post("/v0/topics/t", RECORDS, key=key)
    assert waiting.result(60).status_code == 200
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    assert api.post("/v0/topics/t/diff", {}, key=key).status_code == 200
