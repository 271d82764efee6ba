"""A JSON object being read member by member: every complaint is kept, so that the caller hears all at once."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from apps.core.errors import MOST_COMPLAINTS, Invalid

if TYPE_CHECKING:
    from collections.abc import Collection

JSON = Any
FieldError = tuple[str, str]

MAX_INT = 2**31 - 1


def shown(value: JSON) -> str:
    """Return a value as short JSON, for an error message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def is_integer(value: JSON) -> bool:
    """Say whether a JSON value is a whole number: not true, not 1.0, not "1"."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: JSON) -> bool:
    """Say whether a JSON value is a finite number."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) and math.isfinite(value)


class Body:
    """Reads the members of one JSON object; `errors` collects (field, message) with dotted paths."""

    def __init__(
        self, value: JSON, *, path: str = "", errors: list[FieldError] | None = None
    ) -> None:
        self.path = path
        self.errors: list[FieldError] = [] if errors is None else errors
        self._read: set[str] = set()
        self._is_object = isinstance(value, dict)
        self._members: dict[str, JSON] = value if isinstance(value, dict) else {}
        if not self._is_object:
            self.errors.append((path or "body", f"must be an object, got {shown(value)}"))

    def fail(self, name: str, message: str) -> None:
        """Record a complaint about the member `name`."""
        # Of what is no object, nothing more is said: it has no members to complain about.
        if self._is_object:
            self.errors.append((self.at(name), message))

    def at(self, name: str) -> str:
        """Return the dotted path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def given(self, name: str) -> bool:
        """Say whether the member is there and not null."""
        return self.raw(name) is not None

    def present(self, name: str) -> bool:
        """Say whether the member is there, be it null."""
        self._read.add(name)
        return name in self._members

    def raw(self, name: str, default: JSON = None) -> JSON:
        """Return a member as it is."""
        self._read.add(name)
        return self._members.get(name, default)

    def text(
        self,
        name: str,
        *,
        default: str | None = "",
        pattern: str = "",
        rule: str = "",
        high: int = 0,
    ) -> str:
        """Read a string; `default` None makes it required."""
        if not self.present(name):
            if default is None:
                self.fail(name, "is required")
            return default or ""
        value = self.raw(name)
        if not isinstance(value, str):
            self.fail(name, f"must be a string, got {shown(value)}")
        elif high and len(value) > high:
            self.fail(name, f"must be at most {high} characters, has {len(value)}")
        elif pattern and not re.fullmatch(pattern, value):
            self.fail(name, f"{rule}, got {shown(value)}")
        else:
            return value
        return default or ""

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """Read a whole number within [low, high]."""
        if not self.present(name):
            return default
        value = self.raw(name)
        if not is_integer(value) or not low <= value <= high:
            self.fail(name, f"must be a whole number from {low} to {high}, got {shown(value)}")
            return default
        return int(value)

    def integer_or_null(self, name: str, *, low: int = 0, high: int = MAX_INT) -> int | None:
        """Read a whole number, or null, which is also the default."""
        return self.integer(name, default=0, low=low, high=high) if self.given(name) else None

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """Read a number within [low, high]; it keeps being an int if it was one."""
        if not self.present(name):
            return default
        value = self.raw(name)
        if not is_number(value) or not low <= value <= high:
            self.fail(name, f"must be a number from {low:g} to {high:g}, got {shown(value)}")
            return default
        return value  # type: ignore[no-any-return]

    def choice(self, name: str, choices: Collection[str], *, default: str) -> str:
        """Read one of a few strings."""
        value = self.raw(name, default)
        if value in choices:
            return str(value)
        self.fail(name, f"must be one of {', '.join(choices)}, got {shown(value)}")
        return default

    def boolean(self, name: str, *, default: bool) -> bool:
        """Read true or false."""
        value = self.raw(name, default)
        if isinstance(value, bool):
            return value
        self.fail(name, f"must be true or false, got {shown(value)}")
        return default

    def mapping(self, name: str) -> dict[str, JSON]:
        """Read an object of any members; {} when absent."""
        value = self.raw(name, {})
        if isinstance(value, dict):
            return value
        self.fail(name, f"must be an object, got {shown(value)}")
        return {}

    def array(self, name: str) -> list[JSON]:
        """Read an array; [] when absent."""
        value = self.raw(name, [])
        if isinstance(value, list):
            return value
        self.fail(name, f"must be an array, got {shown(value)}")
        return []

    def strings(self, name: str) -> list[str]:
        """Read an array of strings; [] when absent."""
        read = []
        for index, value in enumerate(self.array(name)):
            if isinstance(value, str):
                read.append(value)
            elif len(self.errors) > MOST_COMPLAINTS:
                break  # nobody would hear of it
            else:
                self.fail(f"{name}.{index}", f"must be a string, got {shown(value)}")
        return read

    def child(self, name: str) -> Body:
        """Read a nested object, whose complaints join these; empty when absent."""
        return Body(self.raw(name, {}), path=self.at(name), errors=self.errors)

    def refuse_unknown(self) -> None:
        """Complain about every member that nobody asked for: a typo must not be taken for a default."""
        for name in self._members.keys() - self._read:
            self.fail(name, "is not a known member")

    def finish(self) -> None:
        """Raise Invalid with every complaint, if there is any."""
        if self.errors:
            raise Invalid.of(sorted(self.errors))
