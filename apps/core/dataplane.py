"""Async views of the data plane: who calls and may they, then the view; every error in the path's dialect.

They work under the slim handler, under Django's own and under its test client alike.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from django.conf import settings
from django.utils.module_loading import import_string

from apps.core import correlation, intake, slots
from apps.core.api import exception_handler
from apps.core.api.scope import ANY, PUBLIC
from apps.core.errors import (
    Forbidden,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from apps.core.slim import Answer, SlimRequest
from apps.core.sse import connections, vouching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from django.http import HttpRequest, HttpResponseBase

    from apps.core.api.dialects import Problem
    from apps.core.caller import Caller
    from apps.core.sse.frames import Kind

    Response = Answer | HttpResponseBase
    Handler = Callable[..., Awaitable[Response]]
    Endpoint = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


class View:
    """A data-plane view: methods `get`, `post`, `put`, `delete`, each `async (request, caller, **path)`.

    One instance serves all requests, so it keeps nothing of one.
    """

    # Which scope each method needs; see core.api.scope. A method that the view doesn't have needs `other`.
    scope: ClassVar[Mapping[str, str]]
    other: ClassVar[str] = ANY
    # The part of the path that must be within the caller's prefixes.
    named: ClassVar[str | None] = None
    run_token: ClassVar[bool] = False
    query_token: ClassVar[bool] = False
    # Whoever is logged in to the admin may look here without a key; a browser sends cookies along with what it loads.
    staff_session: ClassVar[bool] = False
    # Open streams don't count as requests under way.
    is_stream: ClassVar[bool] = False
    # Every command that a socket takes; with any, `get` answers a request for one (`core.websocket.SocketAnswer`).
    commands: ClassVar[tuple[Kind, ...]] = ()
    # Every kind of frame that a stream sends, and of message that a socket does.
    frames: ClassVar[tuple[Kind, ...]] = ()

    @classmethod
    def as_view(cls) -> Endpoint:
        """Return the callable for the URL table."""
        view = cls()

        async def endpoint(request: HttpRequest, **path: Any) -> HttpResponseBase:
            response = await view.dispatch(request, path)
            return response.for_django() if isinstance(response, Answer) else response

        endpoint.data_plane = True  # type: ignore[attr-defined]
        endpoint.dispatch = view.dispatch  # type: ignore[attr-defined]
        endpoint.view_class = cls  # type: ignore[attr-defined]
        endpoint.csrf_exempt = True  # type: ignore[attr-defined]
        return endpoint

    async def dispatch(self, request: HttpRequest, path: dict[str, Any]) -> Response:
        """Answer a request; never raises but for cancellation and a client that has gone."""
        known = correlation.current()
        with (
            nullcontext(known)
            if known
            else correlation.bound(correlation.choose(request.headers)) as correlation_id
        ):
            try:
                response: Response = await self._answer(request, path)
                if isinstance(response, Answer):
                    response.hold()
            except intake.ClientGone:
                raise
            except Exception as exc:
                response = _failed(request, exc)
        response.headers[correlation.HEADER] = correlation_id
        return response

    def scope_of(self, method: str | None) -> str:
        """Return which scope a method of this view needs; None stands for one that it doesn't have."""
        return self.other if method is None else self.scope.get(method, self.other)

    async def _answer(self, request: HttpRequest, path: dict[str, Any]) -> Response:
        method = "GET" if request.method == "HEAD" else str(request.method)
        handler: Handler | None = (
            getattr(self, method.lower(), None) if method in _METHODS else None
        )
        scope = self.scope_of(method if handler else None)
        if scope == PUBLIC:
            response = await self._called(handler)(request, None, **path)
            connections.admit(response, None)
            return response
        caller = await self.identify(request)
        with slots.held(None if self.is_stream else caller.key_id):
            if scope != ANY:
                caller.require(scope)
            if self.named is not None and not caller.sees(path[self.named]):
                raise Forbidden("this name is not within the key's prefixes")
            response = await self._called(handler)(request, caller, **path)
        # The last of all checks (topics v0 §17.3, §18.10). What nobody has opened ends with the first key.
        ends_with_key = caller.run_id is None and caller.user_id is None
        connections.admit(response, caller.key_id, ends_with_key=ends_with_key)
        if caller.user_id is not None:
            vouching.ask_again(response, partial(self.identify, request))
        return response

    async def identify(self, request: HttpRequest) -> Caller:
        """Return who calls; raises Unauthorized, and Forbidden for a run where only keys may come."""
        token = token_of(request) if self.query_token else None
        # What changes something would need a CSRF token besides.
        by_session = self.staff_session and request.method in {"GET", "HEAD"}
        caller = await _identify()(request.headers, query_token=token, by_session=by_session)
        if caller.run_id is not None and not self.run_token:
            raise Forbidden("a run's token opens only what belongs to the run")
        return caller

    def _called(self, handler: Handler | None) -> Handler:
        if handler is None:
            known = [method for method in _METHODS if hasattr(self, method.lower())]
            known += ["HEAD"] if "GET" in known else []
            raise MethodNotAllowed(allowed=known) if known else NotFound()
        return handler


class NothingView(View):
    """Stands where nothing is, so that who may know is decided first and the answer is JSON."""

    scope = {}


_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")


def token_of(request: HttpRequest) -> str | None:
    """Return `?token=`, the first one (topics v0 §2.3)."""
    given = request.GET.getlist("token")
    return given[0] if given else None


def respond(body: bytes, status: int = 200) -> Answer:
    """Answer JSON text."""
    return Answer(body, status)


async def body_of(request: HttpRequest) -> bytes:
    """Read the body within the limit of its path; raises TooLarge."""
    limit = intake.limit_for(request.path)
    if isinstance(request, SlimRequest):
        return await request.take_body(limit)
    # Django has received it already.
    body = request.read(limit + 1)
    if len(body) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    return body


def require_json(request: HttpRequest) -> None:
    """Raise UnsupportedMediaType unless the body is declared as JSON (topics v0 §2.2)."""
    declared = request.headers.get("Content-Type") or ""
    if not declared.lstrip().lower().startswith("application/json"):
        raise UnsupportedMediaType("the content type must be application/json")


@cache
def _identify() -> Callable[..., Awaitable[Caller]]:
    found: Callable[..., Awaitable[Caller]] = import_string(settings.GYOZA_IDENTIFY)
    return found


def _failed(request: HttpRequest, exc: Exception) -> Answer:
    problem = exception_handler.told_of(exc, doing=f"{request.method} {request.path}")
    return refusal(request.path, problem)


def refusal(path: str, problem: Problem) -> Answer:
    """Answer a problem as `path` writes it."""
    status, body, headers = exception_handler.rendered(path, problem)
    answer = Answer(msgspec.json.encode(body), status)
    answer.headers.update(headers)
    return answer
