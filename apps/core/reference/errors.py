"""`docs/reference/errors.md`, written from the classes themselves."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from django.apps import apps

from apps.core.api.exception_handler import status_of_kind
from apps.core.errors import GyozaError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Modules that may declare errors: services for those of one app, errors where there are many.
_HOMES = ("errors", "services")

_HEAD = """# Errors

Generated from the code by `manage.py docs`; don't edit.

Clients branch on `code`; the message is for people and may change. `/api/v1` answers 422 where this table says 400, and
writes `code` as `error_code`. 429 and 503 carry `Retry-After` in seconds; 401 carries `WWW-Authenticate`.

| status | code | when |
|---|---|---|
"""


def every_error() -> list[type[GyozaError]]:
    """Return every error class of the service, whichever app declares it."""
    for app in apps.get_app_configs():
        if app.name.startswith("apps."):
            _load(app.name)
    return sorted(
        {kind for kind in _descendants(GyozaError) if kind.__module__.startswith("apps.")},
        key=lambda kind: (status_of_kind(kind), kind.code, kind.__qualname__),
    )


def page() -> str:
    """Return the page."""
    rows = dict.fromkeys(
        f"| {status_of_kind(kind)} | `{kind.code}` | {sentence(kind)} |"
        for kind in every_error()
        if kind is not GyozaError
    )
    bug = "| 500 | `internal` | A bug of ours, told to nobody but the log. |"
    return _HEAD + "\n".join([*rows, bug]) + "\n"


def sentence(kind: type[GyozaError]) -> str:
    """Return the first line of a class's docstring, which is its default message."""
    return (kind.__doc__ or "").strip().partition("\n")[0]


def _load(package: str) -> None:
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if module.name.rpartition(".")[2] in _HOMES:
            importlib.import_module(module.name)


def _descendants(kind: type[GyozaError]) -> Iterator[type[GyozaError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)
