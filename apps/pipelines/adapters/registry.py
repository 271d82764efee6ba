"""The built-in adapters by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apps.pipelines.adapters.base import Adapter


@cache
def adapters() -> Mapping[str, Adapter]:
    """Return every adapter of GYOZA_ADAPTERS by its name."""
    made: list[Adapter] = [import_string(path)() for path in settings.GYOZA_ADAPTERS]
    return {adapter.name: adapter for adapter in made}


def get(name: str) -> Adapter:
    """Return an adapter; raises KeyError for a name that no saved document can have."""
    return adapters()[name]


def specs() -> dict[str, Mapping[str, Any]]:
    """Return the specs of the inputs of each adapter."""
    return {name: adapter.inputs for name, adapter in adapters().items()}
