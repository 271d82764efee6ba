from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cast import client_for

if TYPE_CHECKING:
    from rest_framework.test import APIClient


@pytest.fixture(autouse=True)
def _no_broker(enqueued: list[Any]) -> None:
    """Record nudges: nothing runs by itself."""


@pytest.fixture
def api(db: None) -> APIClient:
    """Return a client of an open service."""
    return client_for()


def complaints(answer: Any) -> dict[str, str]:
    """Assert the 422 of /api/v1 and return message by place."""
    assert answer.status_code == 422, answer.content
    for one in answer.json()["detail"]:
        assert set(one) >= {"loc", "msg", "type"}
        assert one["loc"][0] == "body"
    return {".".join(map(str, one["loc"][1:])): one["msg"] for one in answer.json()["detail"]}


def refusal(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Assert the error of /api/v1 with all four keys, always present."""
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, code), body
    assert set(body) == {"detail", "error_code", "correlation_id", "timestamp"}
    return dict(body)
