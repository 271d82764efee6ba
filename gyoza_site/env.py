"""Typed readers for environment variables: the only place that reads them.

Each reader stops the process with the variable's name when the value is unusable, and records name, type,
default and sentence for `docs/reference/settings.md`. Any variable may also be given as `<NAME>_FILE`, the path
of a file that holds the value.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_env = Env()


@dataclass(frozen=True)
class Variable:
    """One documented environment variable."""

    name: str
    kind: str
    default: str
    sentence: str


REGISTRY: dict[str, Variable] = {}

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]_-]+")

# The URLs of the servers that a running `make up` has embedded.
_embedded: dict[str, str] = {}


def use_embedded(path: Path) -> None:
    """Let the servers of a running `make up` stand in for URLs that are not given."""
    try:
        _embedded.update(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return


def _load_file(name: str) -> None:
    path = os.environ.get(f"{name}_FILE")
    if path and name not in os.environ:
        try:
            os.environ[name] = Path(path).read_text(encoding="utf-8").rstrip("\n")
        except OSError as exc:
            raise ImproperlyConfigured(f"{name}_FILE: can't read {path}: {exc.strerror}") from exc


def _read(name: str, kind: str, default: T, sentence: str, reader: Callable[..., T]) -> T:
    REGISTRY[name] = Variable(name, kind, "" if default is None else str(default), sentence)
    _load_file(name)
    if not os.environ.get(name):
        return _embedded.get(name, default)  # type: ignore[return-value]  # of text variables only
    try:
        return reader(name)
    except (EnvError, ValueError) as exc:
        raise ImproperlyConfigured(f"{name}: expected {kind}, got {os.environ[name]!r}") from exc


def text(name: str, default: str, sentence: str) -> str:
    """Read a string."""
    return _read(name, "text", default, sentence, _env.str)


def secret(name: str, sentence: str) -> str:
    """Read a string that must not be shown; empty when unset."""
    return _read(name, "secret", "", sentence, _env.str)


def boolean(name: str, default: bool, sentence: str) -> bool:
    """Read true/false, 1/0, yes/no, on/off."""
    return _read(name, "boolean", default, sentence, _env.bool)


def integer(
    name: str, default: int, sentence: str, *, low: int | None = None, high: int | None = None
) -> int:
    """Read a whole number within [low, high]."""
    return _within(name, _read(name, "integer", default, sentence, _env.int), low, high)


def seconds(
    name: str, default: float, sentence: str, *, low: float = 0, high: float | None = None
) -> float:
    """Read a duration in seconds within [low, high]."""
    return _within(name, _read(name, "seconds", default, sentence, _env.float), low, high)


def origins(name: str, sentence: str) -> list[str]:
    """Read a comma-separated list of origins as browsers spell them, or *; empty when unset."""
    kind = "comma-separated list of scheme://host[:port]"
    found = words(name, [], sentence)
    REGISTRY[name] = Variable(name, kind, "", sentence)
    for origin in found:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            # One that no browser sends would admit nobody, without a word.
            raise ImproperlyConfigured(f"{name}: expected {kind}, got {origin!r}")
    return found


def words(name: str, default: Sequence[str], sentence: str) -> list[str]:
    """Read a comma-separated list; blanks are dropped."""

    def split(key: str) -> list[str]:
        return [word for item in os.environ[key].split(",") if (word := item.strip())]

    read: Any = _read(name, "comma-separated list", list(default), sentence, split)
    REGISTRY[name] = Variable(name, "comma-separated list", ",".join(default), sentence)
    return list(read)


N = TypeVar("N", int, float)


def _within(name: str, value: N, low: N | None, high: N | None) -> N:
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ImproperlyConfigured(f"{name}: must be {bounds}, got {value}")
    return value
