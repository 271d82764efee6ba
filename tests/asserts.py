"""Assertions that several tests make."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def assert_problem(response: Any, status: int, code: str, *fields: str) -> dict[str, Any]:
    """Assert the error envelope of runs.md §2, naming exactly these fields; return `error`."""
    body = response.json()
    assert (response.status_code, body["error"]["code"]) == (status, code), body
    assert body["error"]["message"]
    if fields:
        named = {error["field"] for error in body["error"]["detail"]["errors"]}
        assert named == set(fields), body
    return dict(body["error"])


def present(value: T | None) -> T:
    """Assert that there is a value, and return it."""
    assert value is not None
    return value
