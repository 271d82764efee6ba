"""What Django calls when no view answers: JSON in the path's dialect, HTML only where people look."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.utils.html import escape
from django.views import defaults

from apps.core import errors
from apps.core.api import dialects, exception_handler

if TYPE_CHECKING:
    from django.http import HttpRequest


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, defaults.bad_request, exception, errors.Invalid())


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, defaults.permission_denied, exception, errors.Forbidden())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, defaults.page_not_found, exception, errors.NotFound())


def server_error(request: HttpRequest) -> HttpResponse:
    # Django gives a name to few exceptions only; those in our table are no bugs, whoever raised them.
    exception = sys.exc_info()[1]
    problem = exception_handler.problem_of(exception) if exception is not None else None
    if not dialects.is_page(request.path):
        return exception_handler.json_response(request, problem or exception_handler.internal())
    if problem is None:
        return defaults.server_error(request)
    title = f"{HTTPStatus(problem.status).phrase} ({problem.status})"
    page = defaults.ERROR_PAGE_TEMPLATE % {"title": title, "details": escape(problem.message)}
    return HttpResponse(page, status=problem.status, headers=dict(problem.headers))


def _answer(
    request: HttpRequest, page: Any, exception: Exception, otherwise: errors.GyozaError
) -> HttpResponse:
    if dialects.is_page(request.path):
        answer: HttpResponse = page(request, exception)
        return answer
    error = exception_handler.fold(exception) or otherwise
    problem = exception_handler.problem_of(error) or exception_handler.internal()
    return exception_handler.json_response(request, problem)
