"""The wire formats of an error: one pure function each, chosen by the path's prefix. No view builds an error body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from apps.core import clock
from apps.core.digits import read_digits

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON = Any


class Problem(NamedTuple):
    """What went wrong, in the four values every dialect writes, and the headers that go with it."""

    status: int
    code: str
    message: str
    detail: Mapping[str, JSON] = {}
    headers: Mapping[str, str] = {}


def speaks_v1(path: str) -> bool:
    """Say whether errors of this path are written in the dialect of `/api/v1`."""
    return path == "/api/v1" or path.startswith("/api/v1/")


def speaks_v0(path: str) -> bool:
    """Say whether errors of this path are written in the dialect of topics."""
    return path == "/v0" or path.startswith("/v0/")


def is_page(path: str) -> bool:
    """Say whether a person's browser is served here: the only places where an error may be HTML."""
    return path in {"/", "/admin", "/console"} or path.startswith(("/admin/", "/console/"))


def status_on(path: str, problem: Problem) -> int:
    """Return the status a path answers with: `/api/v1` says 422 where the others say 400."""
    return 422 if problem.status == 400 and speaks_v1(path) else problem.status


def error_body(
    path: str,
    *,
    status: int,
    code: str,
    message: str,
    detail: Mapping[str, JSON],
    correlation_id: str | None,
) -> dict[str, JSON]:
    """Write an error the way the path's clients expect it."""
    if speaks_v0(path):
        return _plain(code, message, detail)
    if not speaks_v1(path):
        return _runs(code, message, detail)
    if status in {400, 422}:
        return _v1_validation(message, detail)
    return _v1(code, message, correlation_id)


def _runs(code: str, message: str, detail: Mapping[str, JSON]) -> dict[str, JSON]:
    """runs §2: the same three keys always; whoever is told of a bad request finds the complaints in a list."""
    if code == "invalid_request" and "errors" not in detail:
        detail = {**detail, "errors": [{"field": detail.get("where", "body"), "message": message}]}
    body = _plain(code, message, detail)
    body["error"].setdefault("detail", {})
    return body


def _plain(code: str, message: str, detail: Mapping[str, JSON]) -> dict[str, JSON]:
    """topics v0 §2.5: `detail` only when there is any, no other keys."""
    body: dict[str, JSON] = {"code": code, "message": message}
    if detail:
        body["detail"] = {key: value for key, value in detail.items() if key != "where"}
    return {"error": body}


def _v1(code: str, message: str, correlation_id: str | None) -> dict[str, JSON]:
    """pipelines-storage, intro: all four keys always."""
    return {
        "detail": message,
        "error_code": code,
        "correlation_id": correlation_id,
        "timestamp": clock.rfc3339(clock.now()),
    }


def _v1_validation(message: str, detail: Mapping[str, JSON]) -> dict[str, JSON]:
    """pipelines-storage, intro: each complaint with the place it is about."""
    where = str(detail.get("where", "body"))
    errors = detail.get("errors") or [{"field": "", "message": message}]
    return {
        "detail": [
            {
                "loc": [where, *_steps(str(error["field"]))],
                "msg": error["message"],
                "type": "value_error",
            }
            for error in errors
        ]
    }


def _steps(field: str) -> list[str | int]:
    """Split a dotted path; a number is an index. `body` itself is no step."""
    if field in {"", "body"}:
        return []
    steps = ((step, read_digits(step)) for step in field.split("."))
    return [step if index is None else index for step, index in steps]
