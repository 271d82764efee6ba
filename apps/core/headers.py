"""The headers of a request as ASGI brings them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class ScopeHeaders(Mapping[str, str]):
    """The headers of a request by name in any case, looked up when asked for."""

    __slots__ = ("_raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1")
        found = [value for key, value in self._raw if key == wanted]
        if not found:
            raise KeyError(name)
        return found[0].decode("latin-1") if len(found) == 1 else b",".join(found).decode("latin-1")

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header, or `default`."""
        wanted = name.lower().encode("latin-1")
        for key, _ in self._raw:
            if key == wanted:
                return self[name]
        return default

    def __iter__(self) -> Iterator[str]:
        return iter({key.decode("latin-1").title(): None for key, _ in self._raw})

    def __len__(self) -> int:
        return len({key for key, _ in self._raw})
