"""Django with its whole middleware, for everything that is not the data plane: sync views in one pool of threads."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.urls import set_script_prefix

from apps.core import correlation, errors, intake, slim, slots
from apps.core.api import exception_handler
from apps.core.held import BODIES, Held
from apps.core.intake import ClientGone

if TYPE_CHECKING:
    from typing import IO

    from django.http import HttpResponseBase

    from apps.core.intake import Receive, Scope
    from apps.core.slim import Send

log = logging.getLogger(__name__)

# What is said of a body, before there is a request.
_REFUSED_UNREAD = (
    errors.TooLarge,
    errors.Stalled,
    errors.Throttled,
    errors.UnsupportedMediaType,
)


class ThreadedDjango(BaseHandler):
    """Runs each request from beginning to end in one thread of one pool.

    Django's own ASGI handler makes a thread per request for sync views and enters it anew for each middleware, which
    costs ten times the view. A thread keeps a database connection only between request_started and request_finished.
    """

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(settings.GYOZA_WEB_THREADS, thread_name_prefix="web")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        held = Held(BODIES)
        try:
            # Whoever waits for a thread waits here, and they are not too many.
            with slots.held_for_thread():
                body = await intake.read_file(scope, receive, intake.limit_for(scope["path"]), held)
                response = await loop.run_in_executor(self._threads, self._respond, scope, body)
        except ClientGone:
            return
        except _REFUSED_UNREAD as exc:
            await self._refuse(exc, scope, send)
            return
        finally:
            held.let_go()
        try:
            if not response.streaming:
                await send(slim.head_of(response))
                content = b"" if scope["method"] == "HEAD" else response.content  # type: ignore[attr-defined]
                await send({"type": "http.response.body", "body": content})
            elif getattr(response, "is_async", False):
                await slim.stream(response, receive, send)
            else:
                await self._stream(response, send)
        finally:
            if response.streaming:
                await loop.run_in_executor(self._threads, response.close)
            body.close()

    def close(self) -> None:
        """Let running requests end, and give the database back."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in connections.all(initialized_only=True):
            connection.close_pool()  # type: ignore[attr-defined]

    def _respond(self, scope: Scope, body: IO[bytes]) -> HttpResponseBase:
        set_script_prefix("/")
        signals.request_started.send(sender=type(self), scope=scope)
        request = ASGIRequest(scope, body)
        response: HttpResponseBase = self.get_response(request)
        if not response.streaming:
            # Sends request_finished: the connection goes back before the client has to take anything.
            response.close()
        return response

    async def _stream(self, response: Any, send: Send) -> None:
        loop = asyncio.get_running_loop()
        parts = iter(response)
        await send(slim.head_of(response))
        while True:
            part = await loop.run_in_executor(self._threads, next, parts, None)
            if part is None:
                break
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, exc: Exception, scope: Scope, send: Send) -> None:
        request = ASGIRequest(scope, io.BytesIO())
        problem = exception_handler.problem_of(exc) or exception_handler.internal()
        # Refused before the middleware: it is found by its id like any other.
        with correlation.bound(correlation.choose(request.headers)) as correlation_id:
            response = exception_handler.json_response(request, problem)
        response[correlation.HEADER] = correlation_id
        await send(slim.head_of(response))
        await send({"type": "http.response.body", "body": response.content})

    def handle_uncaught_exception(self, request: Any, resolver: Any, exc_info: Any) -> Any:
        """Answer through `handler500`; if that fails too, in the plainest way."""
        try:
            return super().handle_uncaught_exception(request, resolver, exc_info)  # type: ignore[misc]
        except Exception:
            log.critical("the error page failed", exc_info=sys.exc_info())
            return exception_handler.json_response(request, exception_handler.internal())
