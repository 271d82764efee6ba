"""Tag predicates (topics v0 §14): which records a deletion removes and a router copies. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.core.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

EQ, GLOB = "Eq", "Glob"


@dataclass(frozen=True, slots=True)
class TagPredicate:
    """A tag that equals `text`, or begins with it; a record without a tag never matches."""

    text: str
    is_prefix: bool = False

    def matches(self, tag: str | None) -> bool:
        """Say whether a record with this tag is meant."""
        if tag is None:
            return False
        return tag.startswith(self.text) if self.is_prefix else tag == self.text

    def wire(self) -> list[str]:
        """Return the form that answers carry: always the array of three."""
        return ["tag", GLOB, f"{self.text}*"] if self.is_prefix else ["tag", EQ, self.text]


def parse(given: str | Sequence[str]) -> TagPredicate:
    """Read `["tag","Eq","v"]`, `["tag","Glob","p*"]`, or the short forms `"v"` and `"p*"` (⚑25); raises Invalid."""
    if isinstance(given, str):
        return TagPredicate(given.removesuffix("*"), is_prefix=given.endswith("*"))
    if len(given) != 3 or given[0] != "tag" or given[1] not in {EQ, GLOB}:
        raise Invalid('a tag predicate is ["tag", "Eq", value] or ["tag", "Glob", "prefix*"]')
    _, operator, value = given
    if operator == EQ:
        return TagPredicate(value)
    if not value.endswith("*"):
        raise Invalid("the value of a Glob ends in *")
    return TagPredicate(value.removesuffix("*"), is_prefix=True)
