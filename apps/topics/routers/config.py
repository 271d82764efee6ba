"""What a client may say of a router (topics v0 §16.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from apps.topics import predicates

if TYPE_CHECKING:
    from apps.topics.predicates import TagPredicate


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a PUT; what it leaves out is the default, also when the router exists."""

    source: str
    dest: str
    preserve_node: bool = True
    preserve_tag: bool = True
    create_dest: bool = True
    filter: str | list[str] | None = None
    allow_cycle: bool = False
    guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once"

    def predicate(self) -> TagPredicate | None:
        """Return the filter; raises Invalid for one that is none."""
        return None if self.filter is None else predicates.parse(self.filter)
