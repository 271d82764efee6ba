"""Executors by name, from a settings dictionary. This file is also run by every supervisor: keep it light."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from apps.runs.executors.base import Executor


def load(settings: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, Executor]:
    """Build every executor of `settings` (`{name: {"BACKEND": dotted path, "OPTIONS": {…}}}`).

    Each keeps its attempts under `root/<name>`. Raises ExecutorFailure naming a bad entry.
    """
    return {name: _build(name, entry, root / name) for name, entry in settings.items()}


def _build(name: str, entry: Mapping[str, Any], root: Path) -> Executor:
    from importlib import import_module

    from apps.runs.executors.base import Executor, ExecutorFailure

    dotted = str(entry.get("BACKEND", ""))
    module, _, attribute = dotted.rpartition(".")
    try:
        backend = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        message = f"executor {name!r}: can't import {dotted!r}: {exc}"
        raise ExecutorFailure(message, permanent=True) from exc
    if not (isinstance(backend, type) and issubclass(backend, Executor)):
        raise ExecutorFailure(f"executor {name!r}: {dotted} is not an Executor", permanent=True)
    return backend(root, entry.get("OPTIONS", {}))
