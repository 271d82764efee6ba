"""A record as somebody types it, and what is wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from apps.console.page import given
from apps.topics.publishing import MAX_RECORD_BYTES, Typed

if TYPE_CHECKING:
    from django.http import HttpRequest

    from apps.core.errors import GyozaError

# By name, with what it is called and explained by.
FIELDS = {
    "data": ("Data", "JSON: an object, a list, a number, or text in quotes."),
    "tag": ("Tag (optional)", "What readers may choose by, at most 256 bytes."),
    "node": ("Node (optional)", "Who it is from, at most 128 bytes."),
    "meta": ("Meta (optional)", "JSON, at most 16 KiB."),
}
# The log names a field so.
_NAMED = re.compile(r"`(\w+)` ")


class Field(NamedTuple):
    """A field of the form."""

    name: str
    label: str
    help: str
    text: str
    error: str


class Draft:
    """What the form holds; empty without a request."""

    def __init__(self, request: HttpRequest | None = None) -> None:
        self._request = request
        self._errors: dict[str, str] = {}

    def record(self) -> Typed:
        """Return what was typed. Raises Invalid."""
        assert self._request is not None  # noqa: S101 - only what was sent can be written
        texts = {name: given(self._request, name, most=MAX_RECORD_BYTES) for name in FIELDS}
        return Typed(
            data=texts["data"],
            tag=texts["tag"] or None,
            node=texts["node"] or None,
            meta=texts["meta"] or None,
        )

    def refused(self, error: GyozaError) -> None:
        """Keep why it was not written, by the field that is meant; what is about no field stands beside the data."""
        found = {one["field"]: one["message"] for one in error.detail.get("errors", ())}
        named = _NAMED.match(error.message)
        if named is not None and named[1] in FIELDS:
            found = {named[1]: error.message[named.end() :]}
        self._errors = found or {"data": error.message}

    @property
    def is_refused(self) -> bool:
        """Say whether something is wrong with it."""
        return bool(self._errors)

    @property
    def fields(self) -> list[Field]:
        """Return the fields with what was typed into them."""
        sent = {} if self._request is None else self._request.POST
        return [
            Field(name, label, told, sent.get(name, ""), self._errors.get(name, ""))
            for name, (label, told) in FIELDS.items()
        ]
