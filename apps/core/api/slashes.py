"""URLs that answer with and without a slash at the end, and don't redirect (pipelines-storage.md, intro)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import URLPattern
from django.urls.resolvers import RoutePattern

if TYPE_CHECKING:
    from collections.abc import Callable


class EitherSlash(RoutePattern):
    """Matches its route, and its route with the last slash added or left out."""

    def match(self, path: str) -> Any:
        found = super().match(path)
        if found is not None:
            return found
        return super().match(path[:-1] if path.endswith("/") else f"{path}/")


def slashed(route: str, view: Callable[..., Any], *, name: str) -> URLPattern:
    """Do as `django.urls.path` for a URL of which both forms answer; `route` is the one that is documented."""
    return URLPattern(EitherSlash(route, name=name, is_endpoint=True), view, None, name)
