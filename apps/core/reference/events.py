"""`docs/reference/events.md`: event types from their enumerations, shapes from OpenAPI, frames from the streams' views."""

from __future__ import annotations

import inspect
import io
import re
import tokenize
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import module_has_submodule

from apps.core.reference import openapi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum

    from apps.core.dataplane import View

JSON = Any

_HEAD = """# Events

Generated from the code by `manage.py docs`; don't edit.

What happens is written once and read in three ways: as a thing's own timeline, in the feed of a topic, and as frames of a
stream of server-sent events. Clients ignore members, types and frames that they don't know: there may be more of them in a later version.
"""


def page() -> str:
    """Return the page."""
    sections = chain(
        (_types(kind) for kind in event_types()),
        _shapes(openapi.document()),
        [_streams_head()],
        (_stream(path, view) for path, view in streams() if not view.commands),
        [_sockets_head()],
        (_socket(path, view) for path, view in streams() if view.commands),
    )
    return "\n".join([_HEAD, *sections])


def event_types() -> list[type[Enum]]:
    """Return the enumerations of event types: those of an app's `states` whose names end in EventType."""
    found = []
    for app in apps.get_app_configs():
        if app.name.startswith("apps.") and module_has_submodule(app.module, "states"):
            states = import_module(f"{app.name}.states")
            found += [
                kind
                for name, kind in vars(states).items()
                if name.endswith("EventType") and kind.__module__ == states.__name__
            ]
    return sorted(found, key=lambda kind: kind.__module__)


def sentences(kind: type[Enum]) -> dict[str, str]:
    """Return what the comments beside an enumeration's members say."""
    said: dict[str, str] = {}
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        if token.type == tokenize.NAME and token.string in kind.__members__:
            name = token.string
        elif token.type == tokenize.COMMENT and name:
            said[name] = token.string.lstrip("# ")
    return said


def streams() -> list[tuple[str, type[View]]]:
    """Return every stream and socket: its path and its view."""
    found = []
    for path, pattern in _patterns(get_resolver().url_patterns):
        view: Any = getattr(pattern.callback, "view_class", None)
        if getattr(view, "is_stream", False):
            found.append((path, view))
    return sorted(found, key=lambda stream: stream[0])


def _types(kind: type[Enum]) -> str:
    said = sentences(kind)
    rows = (
        f"| `{member.value}` | {said.get(name, '')} |" for name, member in kind.__members__.items()
    )
    app = kind.__module__.split(".")[1]
    intro = inspect.cleandoc(kind.__doc__ or "")
    return "\n".join(
        [f"## Types: {app}\n", f"{intro}\n", "| type | when |", "|---|---|", *rows, ""]
    )


def _shapes(document: JSON) -> Iterator[str]:
    """Tell of each component that is one event."""
    for name, shape in document["components"]["schemas"].items():
        if name.endswith("Event"):
            rows = (
                f"| `{member}` | {_type(schema)} | {schema.get('description', '')} |"
                for member, schema in shape["properties"].items()
            )
            where = ", ".join(f"`{call}`" for call in _answered_by(document, name))
            yield "\n".join(
                [
                    f"## Members: {name}\n",
                    f"Answered by {where}.\n",
                    "| member | type | |",
                    "|---|---|---|",
                    *rows,
                    "",
                ]
            )


def _type(schema: JSON) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    given = schema.get("type", "any")
    return " or ".join(given) if isinstance(given, list) else str(given)


def _answered_by(document: JSON, name: str) -> list[str]:
    """Return the calls whose answers contain a component."""
    schemas = document["components"]["schemas"]

    def contains(schema: JSON, seen: frozenset[str]) -> bool:
        inside = set(re.findall(r"#/components/schemas/(\w+)", str(schema))) - seen
        return name in inside or any(contains(schemas[one], seen | inside) for one in inside)

    return [
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if contains(operation["responses"], frozenset())
    ]


def _streams_head() -> str:
    return (
        "## Streams\n\n"
        "Each begins with `retry:`, sends a comment (`: hb`) when nothing happens for a while, and is resumed with the"
        " header `Last-Event-ID`. A frame without an id moves nobody's position.\n"
    )


def _stream(path: str, view: type[View]) -> str:
    methods = ", ".join(method for method in view.scope)
    rows = (
        f"| {f'`{kind.event}`' if kind.event else '(none)'} | {kind.id or '(none)'} | {kind.sentence} |"
        for kind in view.frames
    )
    return "\n".join([f"### {methods} {path}\n", "| event | id | |", "|---|---|---|", *rows, ""])


def _sockets_head() -> str:
    return (
        "## Sockets\n\n"
        "Each message is one JSON object in a text frame, with `op`. An answer repeats the `request_id` of its command, whatever"
        " JSON that is, up to 1024 bytes; null if there was none.\n"
    )


def _socket(path: str, view: type[View]) -> str:
    rows = [
        f"| {sender} | `{kind.event}` | {kind.sentence} |"
        for sender, kinds in (("client", view.commands), ("server", view.frames))
        for kind in kinds
    ]
    return "\n".join([f"### GET {path}\n", "| by | op | |", "|---|---|---|", *rows, ""])


def _patterns(entries: list[Any], prefix: str = "/") -> Iterator[tuple[str, URLPattern]]:
    for entry in entries:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns, route)
        else:
            yield re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route), entry
