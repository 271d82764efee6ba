"""topics v0 §2.5: every row of the error table, with the detail it promises."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from apps.core import asyncdb, lifespan, slots
from apps.core.api import exception_handler
from apps.topics import queries
from tests.cast import make_key
from tests.contract.topics.conftest import RECORDS, refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

BIG = "x" * 1_048_577
QUEUE = {"type": "queue"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v0/topics/t", b"{"),
        ("POST", "/v0/topics/t", {"records": "no"}),
        ("POST", "/v0/topics/t", {}),
        ("POST", "/v0/topics/no%20name", RECORDS),
        ("POST", "/v0/topics/t", {"records": []}),
        ("POST", "/v0/topics/t/delete", {"match": ["tag", "Like", "x"]}),
        ("POST", "/v0/topics/t/delete", {}),
        ("GET", "/v0/topics?cursor=!", None),
        ("POST", "/v0/topics/t", {"records": [{"data": 1, "node": "x" * 129}]}),
        ("POST", "/v0/topics/t", {"records": [{"data": 1, "tag": "x" * 257}]}),
        ("POST", "/v0/topics/t", {"records": [{"data": 1, "meta": "x" * 16_384}]}),
        ("POST", "/v0/topics/t", {**RECORDS, "idempotency_key": "x" * 257}),
    ],
)
def test_invalid_request(api: Api, method: str, path: str, body: Any):
    refused(api.call(method, path, body), 400, "invalid_request")


def test_invalid_request_names_a_bad_dead_letter(api: Api):
    answer = api.put("/v0/topics/t", {"dead_letter": "a b"})
    assert refused(answer, 400, "invalid_request") == {"dead_letter": "a b"}


def test_batch_too_large(api: Api):
    answer = api.post("/v0/topics/t", {"records": [{"data": 1}] * 10_001})
    refused(answer, 400, "batch_too_large")


def test_record_too_large(api: Api):
    refused(api.write("t", BIG), 400, "record_too_large")
    api.put("/v0/topics/t", {"discard": "reject", "cap_records": 1})
    refused(api.write("t", 1, 2), 400, "record_too_large")


def test_unauthorized(api: Api):
    make_key()
    refused(api.get("/v0/topics"), 401, "unauthorized")
    refused(api.get("/v0/topics", key="unknown"), 401, "unauthorized")
    refused(api.get("/v0/topics", Authorization="bearer x"), 401, "unauthorized")


def test_forbidden(api: Api):
    refused(api.get("/v0/topics", key=make_key("w", "write")), 403, "forbidden")
    refused(api.get("/v0/topics/b", key=make_key("r", "read", "a")), 403, "forbidden")
    body = {**RECORDS, "config": {}}
    answer = api.post("/v0/topics/t", body, key=make_key("w2", "write"))
    assert refused(answer, 403, "forbidden") == {"topic": "t"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v0/topics/t", None),
        ("POST", "/v0/topics/t/diff", {}),
        ("POST", "/v0/topics/t/delete", {"before_seq": 1}),
        ("POST", "/v0/topics/t", {**RECORDS, "create": False}),
    ],
)
def test_topic_not_found(api: Api, method: str, path: str, body: Any):
    assert refused(api.call(method, path, body), 404, "topic_not_found") == {"topic": "t"}


def test_not_found(api: Api):
    refused(api.get("/v0/nothing"), 404, "not_found")


def test_method_not_allowed(api: Api):
    refused(api.call("PATCH", "/v0/topics/t"), 405, "method_not_allowed")


def test_topic_exists_incompatible(api: Api):
    api.put("/v0/topics/t", QUEUE)
    detail = refused(api.put("/v0/topics/t", {}), 409, "topic_exists_incompatible")
    assert detail == {"topic": "t", "existing_type": "queue", "requested_type": "log"}


def test_topic_not_empty(api: Api):
    api.write("t", 1)
    answer = api.delete("/v0/topics/t?if_empty=true")
    assert refused(answer, 409, "topic_not_empty") == {"topic": "t", "count": 1}


def test_payload_too_large(api: Api, settings: Any):
    settings.GYOZA_BODY_LIMITS = {**settings.GYOZA_BODY_LIMITS, "/v0/": 10}
    refused(api.post("/v0/topics/t", RECORDS), 413, "payload_too_large")


def test_unsupported_media_type(api: Api):
    answer = api.post("/v0/topics/t", RECORDS, content_type="text/json")
    refused(answer, 415, "unsupported_media_type")


def test_topic_full(api: Api):
    api.write("t", 1, config={"discard": "reject", "cap_records": 1, "cap_bytes": 9})
    detail = refused(api.write("t", 1), 422, "topic_full")
    assert detail == {
        "topic": "t", "cap_records": 1, "cap_bytes": 9, "head_seq": 1, "earliest_seq": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "most"), [("max_topics", 1), ("max_total_bytes", 1), ("max_inflight_per_key", 1)]
)
def test_throttled_names_the_cap(
    api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
):
    """⚑3."""
    key = make_key()
    api.post("/v0/topics/a", RECORDS, key=key)
    setattr(settings, f"GYOZA_{limit.upper()}", most)
    if limit == "max_inflight_per_key":
        monkeypatch.setattr(slots, "_under_way", Counter(api.key_ids()))
    answer = api.post("/v0/topics/b", RECORDS, key=key)
    assert refused(answer, 429, "throttled") == {"limit": limit, "max": most}
    assert answer.headers["retry-after"] == "1"


def test_internal(api: Api, monkeypatch: pytest.MonkeyPatch):
    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(queries, "read_records", broken)
    answer = api.post("/v0/topics/t/diff", {})
    assert refused(answer, 500, "internal") == {}
    assert "secret" not in answer.text


def test_not_ready(api: Api, monkeypatch: pytest.MonkeyPatch):
    def away() -> Any:
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(asyncdb, "connection", away)
    answer = api.get("/v0/ready")
    assert refused(answer, 503, "not_ready") == {"replay_progress": 0.0}
    assert answer.headers["retry-after"] == "1"


def test_shutting_down(api: Api, monkeypatch: pytest.MonkeyPatch):
    """⚑4."""
    monkeypatch.setattr(lifespan, "_draining", True)
    refused(api.get("/v0/ready"), 503, "shutting_down")


def test_the_log_says_once_why_the_database_is_not_available(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def away() -> Any:
        raise psycopg.OperationalError("refused for a reason\nand a hint")

    monkeypatch.setattr(exception_handler, "_reason_logged", float("-inf"))
    monkeypatch.setattr(asyncdb, "connection", away)
    for _ in range(3):
        refused(api.post("/v0/topics/t/diff", {}), 503, "unavailable")
    told = [r.getMessage() for r in caplog.records if r.name == exception_handler.__name__]
    assert told == ["the database is not available: refused for a reason"]
