"""What Django calls when no view answers: JSON in the path's dialect, HTML only where people look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.views import defaults

from apps.core import errors
from apps.core.api import dialects, exception_handler

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, defaults.bad_request, exception, errors.Invalid())


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, defaults.permission_denied, exception, errors.Forbidden())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, defaults.page_not_found, exception, errors.NotFound())


def server_error(request: HttpRequest) -> HttpResponse:
    if dialects.is_page(request.path):
        return defaults.server_error(request)
    return exception_handler.json_response(request, exception_handler.internal())


def _answer(
    request: HttpRequest, page: Any, exception: Exception, otherwise: errors.GyozaError
) -> HttpResponse:
    if dialects.is_page(request.path):
        answer: HttpResponse = page(request, exception)
        return answer
    error = exception_handler.fold(exception) or otherwise
    problem = exception_handler.problem_of(error) or exception_handler.internal()
    return exception_handler.json_response(request, problem)
