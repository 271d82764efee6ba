"""Pages of other origins, on both planes of the API: who may read answers is for the settings to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from gyoza_site import env
from tests.cast import make_key

if TYPE_CHECKING:
    from tests.contract.topics.conftest import Api

PAGE, OTHER = "https://page.example", "https://other.example"
PATHS = ["/v0/topics", "/runs", "/v0/nothing"]


@pytest.fixture
def listed(settings: Any) -> None:
    settings.GYOZA_CORS_ORIGINS = [PAGE, "http://localhost:3000"]


def allowed(answer: Any) -> str | None:
    found: str | None = answer.headers.get("access-control-allow-origin")
    return found


@pytest.mark.parametrize("path", PATHS)
def test_by_default_no_page_may_read(api: Api, path: str):
    answer = api.get(path, origin=PAGE, key=make_key())
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = api.call("OPTIONS", path, origin=PAGE, access_control_request_method="POST")
    assert allowed(asked) is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("listed")
def test_a_listed_page_may_read_what_it_has_a_key_for(api: Api, path: str):
    answer = api.get(path, origin=PAGE, key=make_key())
    assert allowed(answer) == PAGE
    assert "retry-after" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    refused = api.get(path, origin=PAGE)
    assert (refused.status_code, allowed(refused)) == (401, PAGE)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("listed")
def test_others_may_not_and_caches_know(api: Api, path: str):
    key = make_key()
    for origin in (OTHER, "null", PAGE.upper(), f"{PAGE}:8443", ""):
        answer = api.get(path, origin=origin, key=key)
        assert allowed(answer) is None
        assert "Origin" in answer.headers.get_list("vary", split_commas=True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("listed")
def test_a_browsers_question_is_answered_without_a_key(api: Api, path: str):
    make_key()
    answer = api.call("OPTIONS", path, origin=PAGE, access_control_request_method="POST")
    assert (answer.status_code, answer.content, allowed(answer)) == (204, b"", PAGE)
    assert "POST" in answer.headers["access-control-allow-methods"]
    for name in ("authorization", "content-type", "last-event-id", "x-api-key"):
        assert name in answer.headers["access-control-allow-headers"]
    others = api.call("OPTIONS", path, origin=OTHER, access_control_request_method="POST")
    assert allowed(others) is None


def test_a_star_is_for_everybody(api: Api, settings: Any):
    settings.GYOZA_CORS_ORIGINS = ["*"]
    answer = api.get("/v0/topics", origin=OTHER, key=make_key())
    assert allowed(answer) == "*"


@pytest.mark.usefixtures("listed")
def test_a_stream_may_be_read_too(api: Api):
    key = make_key()
    api.post("/v0/topics/t", {"records": [{"data": 1}]}, key=key)
    made = api.post("/v0/watch", {"topics": {"t": {}}}, key=key, origin=PAGE).json()
    with api.follow(f"{made['stream_url']}?token={key}", origin=PAGE) as stream:
        assert stream.headers["access-control-allow-origin"] == PAGE
        stream.records(1)


def test_while_the_service_is_open_a_page_must_be_named(api: Api, settings: Any):
    for origins, status in (([], 403), (["*"], 403), ([PAGE], 200)):
        settings.GYOZA_CORS_ORIGINS = origins
        assert api.get("/v0/topics", origin=PAGE).status_code == status


@pytest.mark.parametrize(
    "given", ["page.example", "https://page.example/", "https://Page.example", "*,x"]
)
def test_what_no_browser_sends_is_refused_by_name(given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(env, "REGISTRY", {})  # the page of settings is written from the real one
    monkeypatch.setenv("GYOZA_CORS_ORIGINS", given)
    with pytest.raises(ImproperlyConfigured, match="GYOZA_CORS_ORIGINS: expected"):
        env.origins("GYOZA_CORS_ORIGINS", "x")


def test_origins_are_read_with_ports_and_addresses(monkeypatch: pytest.MonkeyPatch):
    given = ["https://page.example", "http://localhost:3000", "http://[::1]:80", "*"]
    monkeypatch.setattr(env, "REGISTRY", {})  # the page of settings is written from the real one
    monkeypatch.setenv("GYOZA_CORS_ORIGINS", ", ".join(given))
    assert env.origins("GYOZA_CORS_ORIGINS", "x") == given
