"""topics v0 §2.6: a request is judged in one order, and the first failure answers.

Each test breaks two rules at once: the earlier one is told.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from apps.core import slots
from tests.cast import make_key
from tests.contract.topics.conftest import RECORDS, refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


@pytest.fixture
def _tiny(settings: Any) -> None:
    settings.GYOZA_BODY_LIMITS = {**settings.GYOZA_BODY_LIMITS, "/v0/": 20}


def test_1_who_calls_comes_before_where(api: Api):
    make_key()
    refused(api.get("/v0/nothing"), 401, "unauthorized")
    refused(api.get("/nothing/under/v0"), 404, "not_found")
    refused(api.call("PATCH", "/v0/topics/t"), 401, "unauthorized")


def test_1_who_calls_comes_before_how_many(api: Api, settings: Any, monkeypatch: Any):
    make_key()
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    monkeypatch.setattr(slots, "_under_way", Counter(api.key_ids()))
    refused(api.get("/v0/topics", key="wrong"), 401, "unauthorized")


def test_2_how_many_comes_before_what_for(api: Api, settings: Any, monkeypatch: Any):
    key = make_key("w", "write", "a.")
    settings.GYOZA_MAX_INFLIGHT_PER_KEY = 1
    monkeypatch.setattr(slots, "_under_way", Counter(api.key_ids()))
    for path in ("/v0/topics", "/v0/topics/b", "/v0/nothing"):
        refused(api.get(path, key=key), 429, "throttled")


def test_3_the_scope_comes_before_the_prefix(api: Api):
    key = make_key("w", "write", "a.")
    message = refused_message(api, "GET", "/v0/topics/b", key)
    assert "scope" in message
    assert "scope" not in refused_message(api, "POST", "/v0/topics/b", key)


def refused_message(api: Api, method: str, path: str, key: str) -> str:
    answer = api.call(method, path, key=key)
    refused(answer, 403, "forbidden")
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("PATCH", "/v0/topics/a", "read+delete+admin"),
        ("GET", "/v0/topics/a/diff", "read+delete+admin"),
        ("GET", "/v0/topics/a/nothing", "read+delete+admin"),
        ("PUT", "/v0/topics/a/delete", "read+delete+admin"),
    ],
)
def test_3_what_a_key_may_comes_before_whether_it_is_there(
    api: Api, method: str, path: str, scopes: str
):
    """§3.3: what is not recognised below a topic fails closed, on `write`."""
    refused(api.call(method, path, key=make_key("no", scopes)), 403, "forbidden")
    answer = api.call(method, path, key=make_key("yes", "write", "b."))
    refused(answer, 403, "forbidden")
    answer = api.call(method, path, key=make_key("all", "write"))
    assert answer.status_code in {404, 405}


@pytest.mark.usefixtures("_tiny")
def test_4_the_path_comes_before_the_body(api: Api):
    body, declared = b"{" * 100, "text/plain"
    refused(api.post("/v0/nothing", body, content_type=declared), 404, "not_found")
    answer = api.call("PATCH", "/v0/topics/t", body, content_type=declared)
    refused(answer, 405, "method_not_allowed")
    refused(api.put("/v0/topics/t/diff", body), 405, "method_not_allowed")


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v0/topics/t"),
        ("POST", "/v0/topics/t"),
        ("POST", "/v0/topics/t/diff"),
        ("POST", "/v0/topics/t/delete"),
    ],
)
def test_5_size_then_type_then_json(api: Api, method: str, path: str):
    big, small = b"{" * 21, b"{"
    answer = api.call(method, path, big, content_type="text/plain")
    refused(answer, 413, "payload_too_large")
    answer = api.call(method, path, small, content_type="text/plain")
    refused(answer, 415, "unsupported_media_type")
    refused(api.call(method, path, small), 400, "invalid_request")


def test_5_json_comes_before_what_the_body_names(api: Api):
    key = make_key("w", "write")
    body: dict[str, Any] = {"config": {"ttl_ms": "no"}, **RECORDS}
    refused(api.post("/v0/topics/t", body, key=key), 400, "invalid_request")
    body = {"config": {}, "records": 5}
    refused(api.post("/v0/topics/t", body, key=key), 400, "invalid_request")


def test_6_what_the_body_names_comes_before_what_it_means(api: Api):
    key = make_key("w", "write")
    body: dict[str, Any] = {"config": {}, "records": []}
    refused(api.post("/v0/topics/t", body, key=key), 403, "forbidden")


def test_a_write_is_judged_in_the_order_of_section_12(api: Api, settings: Any):
    """§12: no records, batch, key, records in order, topic, name, config, cap, full."""
    settings.GYOZA_MAX_TOPICS = 1
    api.write("full", 1, config={"discard": "reject", "cap_records": 1})
    long_key, bad_config = "x" * 257, {"dead_letter": "a b"}
    too_big, bad_tag = {"data": "x" * 1_048_577}, {"data": 1, "tag": "x" * 257}

    def judged(topic: str, status: int, code: str, **body: Any) -> str:
        answer = api.post(f"/v0/topics/{topic}", body)
        refused(answer, status, code)
        return str(answer.json()["error"]["message"])

    many = [too_big] + [{"data": 1}] * 10_000
    assert "empty" in judged("t", 400, "invalid_request", records=[], idempotency_key=long_key)
    judged("t", 400, "batch_too_large", records=many, idempotency_key=long_key)
    message = judged("t", 400, "invalid_request", records=[too_big], idempotency_key=long_key)
    assert "key" in message
    judged("-", 400, "record_too_large", records=[too_big, bad_tag], create=False)
    assert "tag" in judged("-", 400, "invalid_request", records=[bad_tag, too_big], create=False)
    one = [{"data": 1}]
    judged("-", 404, "topic_not_found", records=one, create=False, config=bad_config)
    assert "name" in judged("-", 400, "invalid_request", records=one, config=bad_config)
    judged("new", 400, "invalid_request", records=one, config=bad_config)
    judged("new", 429, "throttled", records=one)
    judged("full", 422, "topic_full", records=one, config=bad_config)
