"""topics v0 §2.1–2.4: paths, methods, bodies, answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.topics.conftest import RECORDS, refused

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api


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
        "/v0%2Ftopics/t",
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
    assert api.call("POST", "/events").headers["allow"] == "GET, HEAD"
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
