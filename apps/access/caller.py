"""Who is calling, once the door has found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.access.scopes import ALL
from apps.core.errors import Forbidden

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, a run, a person of the staff, or nobody in particular while no key exists."""

    name: str
    scopes: frozenset[str]
    prefixes: tuple[str, ...] = ()
    key_id: UUID | None = None
    run_id: UUID | None = None
    attempt: int | None = None
    user_id: int | None = None
    # The owner's name of a caller that has no id.
    nobody: str = "anonymous"

    # What Django and DRF ask of a `request.user`.
    is_authenticated = True
    is_anonymous = False
    is_active = True

    def __str__(self) -> str:
        return self.name

    def may(self, scope: str) -> bool:
        """Say whether it has a scope, or all of several joined by `+`."""
        return self.scopes.issuperset(scope.split("+"))

    def require(self, scope: str) -> None:
        """Raise Forbidden without that scope."""
        if not self.may(scope):
            raise Forbidden(f"this needs the scope {scope}")

    def sees(self, name: str) -> bool:
        """Say whether a name begins with one of the prefixes; comparing code points is comparing UTF-8 bytes."""
        return not self.prefixes or name.startswith(self.prefixes)

    @property
    def owner(self) -> str:
        """Return the stable name under which rows and remembered answers belong to it."""
        if self.key_id is not None:
            return f"key:{self.key_id}"
        if self.run_id is not None:
            return f"run:{self.run_id}"
        if self.user_id is not None:
            return f"user:{self.user_id}"
        return self.nobody


ANONYMOUS = Caller(name="anonymous", scopes=ALL)
# Whoever may run manage.py here.
COMMAND_LINE = Caller(name="command line", scopes=ALL, nobody="command line")
