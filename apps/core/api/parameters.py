"""Query parameters being read one by one: like `core.body`, every complaint is kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from apps.core.body import FieldError, shown
from apps.core.errors import Invalid

if TYPE_CHECKING:
    from django.http import QueryDict

_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,12}(\.\d{1,9})?", re.ASCII)
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}


class Parameters:
    """Reads the query string of one request. Parameters nobody asks for are ignored."""

    def __init__(self, query: QueryDict) -> None:
        self._query = query
        self.errors: list[FieldError] = []

    def fail(self, name: str, message: str) -> None:
        """Record a complaint about the parameter `name`."""
        self.errors.append((name, message))

    def text(self, name: str) -> str | None:
        """Read a string; None when absent."""
        value = self._query.get(name)
        if value is not None and "\x00" in value:
            self.fail(name, "must not contain NUL")
            return None
        return value

    def many(self, *names: str) -> list[str]:
        """Read every value of a repeatable parameter and of its aliases."""
        return [value for name in names for value in self._query.getlist(name)]

    def integer(self, name: str, *, default: int, low: int, high: int) -> int:
        """Read a whole number within [low, high]."""
        value = self._query.get(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
            self.fail(name, f"must be a whole number from {low} to {high}, got {shown(value)}")
            return default
        return int(value)

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """Read a decimal number within [low, high]."""
        value = self._query.get(name)
        if value is None:
            return default
        if not _DECIMAL.fullmatch(value) or not low <= float(value) <= high:
            self.fail(name, f"must be a number from {low:g} to {high:g}, got {shown(value)}")
            return default
        return float(value)

    def seconds(self, name: str) -> float | None:
        """Read Unix seconds; None when absent."""
        value = self._query.get(name)
        if value is None:
            return None
        if not _DECIMAL.fullmatch(value):
            self.fail(name, f"must be Unix seconds, got {shown(value)}")
            return None
        return float(value)

    def boolean(self, name: str) -> bool:
        """Read true or false, as people write it; false when absent."""
        value = self._query.get(name, "false")
        found = _BOOLEANS.get(value.lower())
        if found is None:
            self.fail(name, f"must be true or false, got {shown(value)}")
        return bool(found)

    def uuid(self, name: str) -> UUID | None:
        """Read a UUID; None when absent."""
        value = self._query.get(name)
        if value is None:
            return None
        try:
            return UUID(value)
        except ValueError:
            self.fail(name, f"must be a UUID, got {shown(value)}")
            return None

    def finish(self) -> None:
        """Raise Invalid with every complaint, if there is any."""
        if self.errors:
            raise Invalid.of(self.errors, where="query")
