"""Which Python callables an operator lets ops name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})", re.ASCII)


def is_callable_name(dotted: str) -> bool:
    """Say whether `dotted` has the form `package.module:callable`."""
    return _DOTTED.fullmatch(dotted) is not None


def is_allowed(dotted: str, patterns: Sequence[str]) -> bool:
    """Say whether one of `patterns` covers `dotted`.

    1. `package.module:callable` covers exactly that callable.
    2. `package.module.*` covers every callable without a leading underscore in `package.module` and in the modules
       below it, not in `package.module2`.
    3. Anything else, such as a bare `*`, covers nothing.
    """
    parts = _DOTTED.fullmatch(dotted)
    if parts is None:
        return False
    module, name = parts.groups()
    return any(_covers(pattern, dotted, module, name) for pattern in patterns)


def _covers(pattern: str, dotted: str, module: str, name: str) -> bool:
    if pattern == dotted:
        return True
    if not pattern.endswith(".*") or name.startswith("_"):
        return False
    package = pattern.removesuffix(".*")
    return bool(package) and (module == package or module.startswith(f"{package}."))
