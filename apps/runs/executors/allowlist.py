"""Which Python callables an op may name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DOTTED = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})", re.ASCII)


def is_allowed(dotted: str, patterns: Iterable[str]) -> bool:
    """Tell whether `dotted` (`package.module:callable`) matches one of `patterns`.

    1. `pkg.mod:callable` allows exactly that callable.
    2. `pkg.mod.*` allows any callable whose name has no leading underscore in `pkg.mod` or in any
       module below it, but not in `pkg.module2`. Because a module also exposes what it imports,
       the worker further requires that the callable was *defined* in an allowed module.
    3. Anything else (a bare `*`, a dotted callable such as `mod:Class.method`) allows nothing.
    """
    parts = _DOTTED.fullmatch(dotted)
    if parts is None:
        return False
    module, name = parts.groups()
    for pattern in patterns:
        if pattern == dotted:
            return True
        if pattern.endswith(".*") and not name.startswith("_"):
            package = pattern[:-2]
            if package and (module == package or module.startswith(package + ".")):
                return True
    return False


def split(dotted: str) -> tuple[str, str] | None:
    """Return (module, callable) of `package.module:callable`, or None if it isn't one."""
    parts = _DOTTED.fullmatch(dotted)
    return (parts[1], parts[2]) if parts else None
