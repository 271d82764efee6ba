"""The one table from error class to HTTP status, and where Django's, DRF's and psycopg's errors join it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import psycopg
from django.core import exceptions as django
from django.db import InterfaceError, OperationalError
from django.http import Http404, JsonResponse
from django.http.request import UnreadablePostError
from rest_framework import exceptions as drf
from rest_framework.response import Response

from apps.core import correlation, errors
from apps.core.api import dialects
from apps.core.api.dialects import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)

STATUS: dict[type[errors.GyozaError], int] = {
    errors.GyozaError: 500,
    errors.Invalid: 400,
    errors.TooLarge: 413,
    errors.Stalled: 408,
    errors.HeadTooLarge: 431,
    errors.UnsupportedMediaType: 415,
    errors.Unprocessable: 422,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.UpgradeRequired: 426,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.RangeNotSatisfiable: 416,
    errors.Throttled: 429,
    errors.Unimplemented: 501,
    errors.Unavailable: 503,
    errors.OutOfRoom: 507,
}

# Whoever is told that the database is not available isn't told why; the log is, once in so many seconds.
_REASON_SECONDS = 5.0
_reason_logged = -_REASON_SECONDS


def _no_database(exc: Exception) -> errors.Unavailable:
    global _reason_logged
    now = time.monotonic()
    if now - _reason_logged >= _REASON_SECONDS:
        _reason_logged = now
        log.warning("the database is not available: %s", str(exc).strip().partition("\n")[0])
    return errors.Unavailable("the database is not available")


Fold = tuple[type[BaseException], "Callable[[Any], errors.GyozaError]"]

# Errors of the libraries below us, folded into our own; the first row that fits wins, so subclasses stand first.
FOLDS: tuple[Fold, ...] = (
    (drf.NotAuthenticated, lambda _: errors.Unauthorized()),
    (drf.AuthenticationFailed, lambda exc: errors.Unauthorized(str(exc.detail))),
    (drf.PermissionDenied, lambda exc: errors.Forbidden(str(exc.detail))),
    (drf.NotFound, lambda _: errors.NotFound()),
    (drf.MethodNotAllowed, lambda exc: errors.MethodNotAllowed(str(exc.detail))),
    (drf.NotAcceptable, lambda _: errors.NotAcceptable()),
    (drf.UnsupportedMediaType, lambda _: errors.UnsupportedMediaType()),
    (drf.Throttled, lambda exc: errors.Throttled(retry_after=int(exc.wait or 1))),
    (drf.ParseError, lambda exc: errors.Invalid(str(exc.detail))),
    (drf.ValidationError, lambda exc: errors.Invalid.of(_complaints(exc.detail))),
    (Http404, lambda _: errors.NotFound()),
    (django.ObjectDoesNotExist, lambda _: errors.NotFound()),
    (django.PermissionDenied, lambda _: errors.Forbidden()),
    (django.RequestDataTooBig, lambda _: errors.TooLarge()),
    (django.BadRequest, lambda _: errors.Invalid()),
    (django.SuspiciousOperation, lambda _: errors.Invalid()),
    (django.ValidationError, lambda exc: errors.Invalid.of([("body", m) for m in exc.messages])),
    (UnreadablePostError, lambda _: errors.Invalid("the body could not be read to its end")),
    # Postgres is away, is starting, has no connection left or gave up waiting: nothing the caller did.
    (OperationalError, _no_database),
    (InterfaceError, _no_database),
    (psycopg.OperationalError, _no_database),
)


def status_of(error: errors.GyozaError) -> int:
    """Return the status of an error: that of the nearest class in the table."""
    return status_of_kind(type(error))


def status_of_kind(kind: type[errors.GyozaError]) -> int:
    """Return the status of a class of errors."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def fold(exc: BaseException) -> errors.GyozaError | None:
    """Return an exception as one of ours; None for what nobody foresaw, which is a bug of ours."""
    if isinstance(exc, errors.GyozaError):
        return exc
    return next((translate(exc) for kind, translate in FOLDS if isinstance(exc, kind)), None)


def problem_of(exc: BaseException) -> Problem | None:
    """Return status, code, message, detail and headers of an exception; None for a bug of ours."""
    error = fold(exc)
    if error is None:
        return None
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.Throttled | errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.Stalled):
        # Or the connection would stay for as long as the rest of the body takes to come.
        headers["Connection"] = "close"
    if isinstance(error, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.length}"
    if isinstance(error, errors.UpgradeRequired):
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
    if isinstance(error, errors.MethodNotAllowed) and error.allowed:
        headers["Allow"] = ", ".join(error.allowed)
    return Problem(status_of(error), error.code, error.message, error.detail, headers)


def told_of(exc: BaseException, *, doing: str) -> Problem:
    """Return what whoever asked is told of an exception; a bug of ours goes to the log, with what failed."""
    problem = problem_of(exc)
    if problem is None:
        log.error("%s failed", doing, exc_info=exc)
        problem = internal()
    return problem


def internal() -> Problem:
    """Return what is said about a bug of ours: nothing but that there is one."""
    return Problem(500, "internal", "something went wrong on our side")


def rendered(path: str, problem: Problem) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return status, body and headers of a problem as `path` writes them."""
    status = dialects.status_on(path, problem)
    body = dialects.error_body(
        path,
        status=status,
        code=problem.code,
        message=problem.message,
        detail=problem.detail,
        correlation_id=correlation.current(),
    )
    return status, body, dict(problem.headers)


def json_response(request: HttpRequest, problem: Problem) -> JsonResponse:
    """Answer a problem outside of DRF."""
    status, body, headers = rendered(request.path, problem)
    return JsonResponse(body, status=status, headers=headers)


def handle(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Answer an exception of a DRF view; None lets Django log it and call `handler500`."""
    problem = problem_of(exc)
    if problem is None:
        return None
    if problem.status == 406:
        # The first format of the view would be taken, be it YAML.
        return json_response(context["request"], problem)
    status, body, headers = rendered(context["request"].path, problem)
    return Response(body, status, headers=headers)


def _complaints(detail: Any, path: str = "") -> list[tuple[str, str]]:
    """Flatten DRF's nested errors into (dotted field, message)."""
    if isinstance(detail, dict):
        items = [(_join(path, key), value) for key, value in detail.items()]
    elif isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        items = [(_join(path, index), value) for index, value in enumerate(detail)]
    else:
        messages = detail if isinstance(detail, list) else [detail]
        return [(path or "body", str(message)) for message in messages]
    return [complaint for field, value in items for complaint in _complaints(value, field)]


def _join(path: str, step: str | int) -> str:
    if step == "non_field_errors":
        return path
    return f"{path}.{step}" if path else str(step)
