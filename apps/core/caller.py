"""What may be asked of whoever calls, by those who don't know keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID


class Caller(Protocol):
    """What a view may ask of whoever calls; `access.auth.Caller` is one."""

    @property
    def key_id(self) -> UUID | None: ...
    @property
    def run_id(self) -> UUID | None: ...
    @property
    def user_id(self) -> int | None: ...
    @property
    def owner(self) -> str: ...
    def may(self, scope: str) -> bool: ...
    def require(self, scope: str) -> None: ...
    def sees(self, name: str) -> bool: ...
