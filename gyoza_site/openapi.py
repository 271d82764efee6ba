"""OpenAPI of the whole service: DRF's views by drf-spectacular, the data plane's by hand, in one document."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.urls import URLPattern, path
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from apps.core.api import dialects
from apps.core.api.scope import PUBLIC

JSON = Any
METHODS = ("get", "put", "post", "patch", "delete")


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.access.auth.KeyAuthentication"
    name = ["key", "bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[JSON]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "http", "scheme": "bearer"},
        ]


class StaffSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.access.auth.StaffSessionAuthentication"
    name = "staff"

    def get_security_definition(self, auto_schema: Any) -> JSON:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


@cache
def _by_hand() -> JSON:
    text = (Path(__file__).parent / "data_plane.yaml").read_text("utf-8")
    return yaml.safe_load(text)


def add_data_plane(result: JSON, generator: Any, request: Any, public: bool) -> JSON:
    """Join the paths and components that `data_plane.yaml` describes."""
    extra = _by_hand()
    for url, operations in extra["paths"].items():
        result["paths"].setdefault(url, {}).update(operations)
    for kind, components in extra["components"].items():
        known = result["components"].setdefault(kind, {})
        if twice := known.keys() & components.keys():
            raise ValueError(f"{kind} described twice: {', '.join(sorted(twice))}")
        known.update(components)
    result["paths"] = dict(sorted(result["paths"].items()))
    return result


def add_summaries(result: JSON, generator: Any, request: Any, public: bool) -> JSON:
    """Take the first line of a method's docstring for the summary: it alone is shown in a list of operations."""
    for operations in result["paths"].values():
        for operation in operations.values():
            if "summary" not in operation and "description" in operation:
                first, _, rest = operation.pop("description").partition("\n")
                operation["summary"] = first
                if rest.strip():
                    operation["description"] = rest.strip()
    return result


def add_errors(result: JSON, generator: Any, request: Any, public: bool) -> JSON:
    """Say of every operation that it may answer an error, and in which shape (`core.api.dialects`)."""
    for url, operations in result["paths"].items():
        shapes = {"default": "Problem"}
        if dialects.speaks_v1(url):
            shapes = {"422": "V1Invalid", "default": "V1Problem"}
        told = {code: {"$ref": f"#/components/responses/{name}"} for code, name in shapes.items()}
        for method in METHODS:
            if method in operations:
                # Not changed in place: what was written once may stand at several paths.
                one = operations[method]
                operations[method] = {**one, "responses": {**one["responses"], **told}}
    return result


class SchemaView(SpectacularAPIView):
    scope = PUBLIC


class DocsView(SpectacularSwaggerSplitView):
    scope = PUBLIC
    url_name = "schema"


urlpatterns: list[URLPattern] = [
    path("api/schema", SchemaView.as_view(), name="schema"),
    path("api/docs", DocsView.as_view(), name="docs"),
]
