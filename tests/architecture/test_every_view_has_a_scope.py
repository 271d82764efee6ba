"""Whoever adds a path says who may call it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver

from apps.access.scopes import Scope
from apps.core.api.scope import ANY, PUBLIC
from apps.core.dataplane import View as DataPlaneView

METHODS = ("get", "post", "put", "patch", "delete")
# Paths that programs, probes and people without a login may call.
OPEN_PATHS = {
    "health",
    "healthz",
    "readyz",
    "v0/health",
    "v0/ready",
    "metrics",
    "api/schema",
    "api/docs",
    "api/redoc",
    "",  # leads to the console
    "console",
    "v0/watch/<str:wid>",  # asks for the key that made the session, if one did
}


def patterns(urls: list[Any], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in urls:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            # The admin asks for a login of its own.
            if entry.urlconf_name is not admin.site.urls[0] and entry.app_name != "admin":
                yield from patterns(entry.url_patterns, path)
        else:
            yield path, entry


VIEWS = dict(patterns(get_resolver("gyoza_site.urls").url_patterns))


def view_of(pattern: URLPattern) -> Any:
    callback = pattern.callback
    return getattr(callback, "cls", None) or getattr(callback, "view_class", None) or callback


def scopes_of(view: Any) -> dict[str, str]:
    """Return method → scope of a view; a method for which it says nothing is missing."""
    scope = getattr(view, "scope", None)
    methods = [method for method in METHODS if callable(getattr(view, method, None))]
    if isinstance(scope, str):
        return dict.fromkeys(methods, scope)
    assert isinstance(scope, Mapping), "declares no scope"
    return {method: scope[method.upper()] for method in methods if method.upper() in scope}


def is_page_behind_login(path: str) -> bool:
    return path.startswith(("console/", "static/"))


@pytest.mark.parametrize("path", [path for path in VIEWS if not is_page_behind_login(path)])
def test_every_view_has_a_scope(path):
    view = view_of(VIEWS[path])
    declared = scopes_of(view)
    missing = {m for m in METHODS if callable(getattr(view, m, None))} - declared.keys()
    assert not missing, f"{view} declares no scope for {missing}"
    for scope in declared.values():
        assert scope in {PUBLIC, ANY} or set(scope.split("+")) <= set(Scope), scope


@pytest.mark.parametrize("path", [path for path in VIEWS if not is_page_behind_login(path)])
def test_what_is_open_to_all_is_listed_here(path):
    if PUBLIC in scopes_of(view_of(VIEWS[path])).values():
        assert path.rstrip("/") in OPEN_PATHS


def test_a_view_that_changes_something_asks_for_more_than_read():
    for path, pattern in VIEWS.items():
        if is_page_behind_login(path):
            continue
        for method, scope in scopes_of(view_of(pattern)).items():
            reads_by_post = path.endswith(("/diff", "v0/watch", "/validate"))
            if method != "get" and not reads_by_post:
                assert scope not in {PUBLIC, ANY, "read"}, f"{method} {path} asks for {scope}"


def test_a_run_token_opens_few_doors():
    """A view that admits run tokens checks `caller.run_id` itself: each one is read with care."""
    admitting = {
        path for path, pattern in VIEWS.items() if getattr(view_of(pattern), "run_token", False)
    }
    assert all(path.startswith(("runs/<uuid:run_id>", "api/v1/storage")) for path in admitting)


def test_data_plane_views_are_found():
    assert any(
        isinstance(view_of(pattern), type) and issubclass(view_of(pattern), DataPlaneView)
        for pattern in VIEWS.values()
    )
