from __future__ import annotations

import asyncio

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from apps.core import correlation, ids


def test_a_sane_id_is_kept():
    assert correlation.choose({"X-Correlation-ID": "req-1.a:b"}) == "req-1.a:b"


def test_a_request_id_serves_too():
    assert correlation.choose({"X-Correlation-ID": "not sane", "X-Request-ID": "r1"}) == "r1"


@pytest.mark.parametrize(
    "given", ["", " ", "a b", "a\nb", "a" * 129, "\N{SNOWMAN}", "<b>", "x\x1b[31m"]
)
def test_a_strange_id_is_replaced(given, monkeypatch):
    fixed = ids.uuid7()
    monkeypatch.setattr(ids, "uuid7", lambda: fixed)
    assert correlation.choose({"X-Correlation-ID": given}) == fixed.hex


def test_the_middleware_binds_and_echoes():
    seen = []

    def view(_request):
        seen.append(correlation.current())
        return HttpResponse()

    request = RequestFactory().get("/", headers={"X-Correlation-ID": "abc"})
    response = correlation.CorrelationMiddleware(view)(request)
    assert (seen, response["X-Correlation-ID"]) == (["abc"], "abc")
    assert correlation.current() is None


def test_requests_at_the_same_time_keep_apart():
    async def view(request: HttpRequest) -> HttpResponse:
        before = correlation.current()
        await asyncio.sleep(0)
        assert correlation.current() == before
        return HttpResponse(before)

    async def both() -> list[HttpResponse]:
        middleware = correlation.CorrelationMiddleware(view)
        calls = [
            middleware(RequestFactory().get("/", headers={"X-Correlation-ID": name}))
            for name in ("one", "two")
        ]
        return list(await asyncio.gather(*calls))

    assert [response.content for response in asyncio.run(both())] == [b"one", b"two"]
