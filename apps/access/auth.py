"""The doors' question, who is calling and may they: for DRF views, for async views, and for the server at start."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http.request import split_domain_port, validate_host
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission

from apps.access import keyring, services, sessions, tokens
from apps.access.caller import ANONYMOUS, COMMAND_LINE, Caller
from apps.access.scopes import ALL, Scope
from apps.core.api.scope import ANY, PUBLIC
from apps.core.errors import Forbidden, Unauthorized
from apps.core.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from django.contrib.auth.models import User
    from django.http import HttpRequest
    from rest_framework.request import Request
    from rest_framework.views import APIView

__all__ = [
    "ANONYMOUS",
    "COMMAND_LINE",
    "Caller",
    "HasScope",
    "KeyAuthentication",
    "StaffSessionAuthentication",
    "caller_of",
    "caller_of_user",
    "dev_mode_banner",
    "identify",
    "identify_now",
    "is_open",
    "person_of",
    "refuse_open_bind",
]


async def identify(
    headers: Mapping[str, str], *, query_token: str | None = None, by_session: bool = False
) -> Caller:
    """Return who is calling an async view; raises Unauthorized.

    `query_token` only where a view allows `?token=`, `by_session` only where it lets the staff look from a page of ours.
    """
    keyring.listen()
    keys = keyring.fresh() or cast("keyring.Snapshot", await in_thread(keyring.load))
    try:
        caller, noted = _recognise(headers, query_token, keys)
    except Unauthorized:
        # A key that was given decides, even a wrong one.
        if not by_session or query_token or _presented(headers):
            raise
        user = await in_thread(sessions.find_staff, headers.get("Cookie") or "")
        if user is None:
            raise
        return caller_of_user(user)
    if noted is not None:
        await in_thread(services.note_use, key_id=noted)
    return caller


def identify_now(headers: Mapping[str, str], *, query_token: str | None = None) -> Caller:
    """Return who is calling a sync view; raises Unauthorized."""
    caller, noted = _recognise(headers, query_token, keyring.fresh() or keyring.load())
    if noted is not None:
        services.note_use(key_id=noted)
    return caller


def is_open() -> bool:
    """Say whether no key exists, so that everyone may do everything."""
    return (keyring.fresh() or keyring.load()).is_open


def refuse_open_bind(host: str) -> None:
    """Raise ImproperlyConfigured if binding to `host` would let strangers in: not loopback, and no key (topics §3.1)."""
    if settings.GYOZA_ALLOW_INSECURE_NO_AUTH or is_loopback(host) or not is_open():
        return
    raise ImproperlyConfigured(
        f"refusing to listen on {host} without any API key: everyone who reaches it could run code here. Make a key "
        "(manage.py keys create NAME), or set TOPICS_API_KEYS, or listen on 127.0.0.1; "
        "TOPICS_ALLOW_INSECURE_NO_AUTH=1 listens anyway."
    )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a host; one that does not resolve counts as open."""
    try:
        found = socket.getaddrinfo(host.strip("[]") or "0.0.0.0", None)  # noqa: S104
    except (OSError, UnicodeError):
        return False
    # Scope ids (fe80::1%eth0) are no part of an address.
    return all(
        ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found
    )


def dev_mode_banner() -> str:
    """Return what the server prints at start while its doors are open; empty when they are not."""
    if not is_open():
        return ""
    return (
        "No API key exists: everyone who reaches this address may do everything.\n"
        "The first key turns authentication on, at once:  manage.py keys create NAME"
    )


def caller_of_user(user: User) -> Caller:
    """Return a person of the staff as a caller: superusers may do everything, others look."""
    return Caller(
        name=user.get_username(),
        scopes=ALL if user.is_superuser else frozenset({Scope.READ}),
        user_id=user.pk,
    )


def person_of(request: HttpRequest) -> Caller:
    """Return the person at the screen of an admin page."""
    return caller_of_user(cast("User", request.user))


def caller_of(request: Request) -> Caller:
    """Return who calls a DRF view that is not public: `request.auth`, with its type."""
    return cast("Caller", request.auth)


class KeyAuthentication(BaseAuthentication):
    """The caller by its key or run token; while no key exists, anyone."""

    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        with _in_drf_terms():
            try:
                caller = identify_now(request.headers)
            except Unauthorized:
                # Who gave a wrong key is refused; who gave none may still be logged in (the next class).
                if _presented(request.headers) is not None:
                    raise
                return None
        return caller, caller

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffSessionAuthentication(SessionAuthentication):
    """The person logged in to the admin, for the browsable pages; what changes something needs the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Caller, Caller] | None:
        user = getattr(request._request, "user", None)
        if user is None or not (user.is_active and user.is_staff):
            return None
        self.enforce_csrf(request)
        caller = caller_of_user(user)
        return caller, caller


class HasScope(BasePermission):
    """The caller has the scope that the view declares; a view that declares none is closed."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        with _in_drf_terms():
            _admit(cast("Caller | None", request.auth), view, scope_for(view, str(request.method)))
        return True


def _admit(caller: Caller | None, view: APIView, scope: str | None) -> None:
    if scope == PUBLIC:
        return
    if caller is None:
        raise Unauthorized
    if scope is None:
        raise Forbidden("this path is closed")
    if caller.run_id is not None and not getattr(view, "run_token", False):
        raise Forbidden("a run's token opens only what belongs to the run")
    if scope != ANY:
        caller.require(scope)


@contextmanager
def _in_drf_terms() -> Iterator[None]:
    """Raise refusals as DRF's own: its browsable pages ask again, for each form, and understand no others."""
    try:
        yield
    except Unauthorized as exc:
        raise AuthenticationFailed(exc.message) from exc
    except Forbidden as exc:
        raise PermissionDenied(exc.message) from exc


def scope_for(view: object, method: str) -> str | None:
    """Return the scope a view asks of a method; None if it has not said."""
    scope = getattr(view, "scope", None)
    if scope is None or isinstance(scope, str):
        return scope
    # HEAD is GET; a method the view does not have is answered 405 to whoever has a key.
    return str(scope.get("GET" if method == "HEAD" else method, ANY))


def _recognise(
    headers: Mapping[str, str], query_token: str | None, keys: keyring.Snapshot
) -> tuple[Caller, UUID | None]:
    """Return the caller, and the key whose use should be written down, if any."""
    secret = _presented(headers) or query_token
    if keys.is_open:
        _refuse_other_sites(headers)
        # An op is its run, whether or not there are keys, or it would work only once there is one.
        is_op = secret is not None and secret.startswith(tokens.RUN_TOKEN_PREFIX)
        return (_run_caller(str(secret)) if is_op else ANONYMOUS), None
    if not secret:
        raise Unauthorized("no key was given")
    if secret.startswith(tokens.RUN_TOKEN_PREFIX) and secret != query_token:
        return _run_caller(secret), None
    entry = keys.find(secret)
    if entry is None:
        raise Unauthorized("the key is unknown, expired or revoked")
    key_id = entry.caller.key_id
    due = entry.is_stored and key_id is not None and keyring.is_due(key_id)
    return entry.caller, key_id if due else None


def _run_caller(token: str) -> Caller:
    read = tokens.read_run_token(token)
    if read is None:
        raise Unauthorized("the run token is not ours")
    run_id, attempt = read
    return Caller(
        name=f"run:{run_id}",
        scopes=frozenset({Scope.READ, Scope.WRITE}),
        run_id=run_id,
        attempt=attempt,
    )


def _presented(headers: Mapping[str, str]) -> str | None:
    """Return the secret of `Authorization: Bearer` (topics §3.2: exactly so), else of `X-API-Key`."""
    authorization = headers.get("Authorization") or ""
    given = (
        authorization[7:] if authorization.startswith("Bearer ") else headers.get("X-API-Key") or ""
    ).strip()
    # Headers arrive as Latin-1; what the client typed was most likely UTF-8.
    try:
        return given.encode("latin-1").decode("utf-8") or None
    except UnicodeError:
        return given or None


def _refuse_other_sites(headers: Mapping[str, str]) -> None:
    """Raise Forbidden for a request that some other web site makes a local browser send.

    With no key there is no credential that such a site would lack. A page elsewhere may post a form here (its Origin
    tells), or give its own name our address (Host tells).
    """
    host = headers.get("Host")
    if host is not None and not validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS):
        raise Forbidden("this host name is not one of ours")
    origin = headers.get("Origin")
    # `*` among the origins whose pages may read answers names nobody: that is not meant for a service that is open.
    if origin is None or origin in {*settings.CSRF_TRUSTED_ORIGINS, *settings.GYOZA_CORS_ORIGINS}:
        return
    if urlsplit(origin).netloc != host:
        raise Forbidden("requests from other sites need a key")
