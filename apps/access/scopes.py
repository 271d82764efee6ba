"""The four scopes, and the words in which people write them."""

from __future__ import annotations

from enum import StrEnum

from apps.core.errors import Invalid


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


ALL = frozenset(Scope)
WORDS: dict[str, frozenset[Scope]] = {
    "read": frozenset({Scope.READ}),
    "r": frozenset({Scope.READ}),
    "write": frozenset({Scope.WRITE}),
    "w": frozenset({Scope.WRITE}),
    "delete": frozenset({Scope.DELETE}),
    "del": frozenset({Scope.DELETE}),
    "d": frozenset({Scope.DELETE}),
    "admin": frozenset({Scope.ADMIN}),
    "a": frozenset({Scope.ADMIN}),
    "rw": frozenset({Scope.READ, Scope.WRITE}),
}


def parse_scopes(text: str) -> frozenset[Scope]:
    """Read `read+write`; empty means all. Raises Invalid for an unknown word, or for separators alone."""
    if not text.strip():
        return ALL
    words = [word.strip().lower() for word in text.split("+") if word.strip()]
    if not words:
        raise Invalid(f"no scope in {text!r}")
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise Invalid(f"unknown scope {unknown[0]!r}; known are read, write, delete and admin")
    return frozenset(scope for word in words for scope in WORDS[word])


def parse_prefixes(text: str) -> tuple[str, ...]:
    """Read `a|b`; none means any name."""
    return tuple(prefix.strip() for prefix in text.split("|") if prefix.strip())
