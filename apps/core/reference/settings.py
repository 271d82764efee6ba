"""`docs/reference/settings.md`, written from the calls that read the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

_HEAD = """# Settings

Generated from the code by `manage.py docs`; don't edit.

Each is an environment variable, or a file named by `<NAME>_FILE` that holds the value. A value that can't be used stops
the process with the variable's name.

| variable | type | default | |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    rows = (
        f"| `{variable.name}` | {variable.kind} | {_shown(variable.default)} | {variable.sentence} |"
        for variable in _variables()
    )
    return _HEAD + "\n".join(rows) + "\n"


def _variables() -> list[Any]:
    return sorted(settings.GYOZA_ENVIRONMENT.values(), key=lambda variable: str(variable.name))


def _shown(default: str) -> str:
    # The same page on every machine: paths are told relative to the checkout.
    home = str(Path(settings.BASE_DIR))
    return f"`{default.replace(home, '.')}`" if default else ""
