"""Assertions that several tests make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def assert_runs_nowhere(headers: Mapping[str, str]) -> None:
    """Assert that a browser runs nothing of this content, guesses no type, and gives it to no page of another site."""
    assert (
        headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def present(value: T | None) -> T:
    """Assert that there is a value, and return it."""
    assert value is not None
    return value
