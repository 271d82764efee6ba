"""Query parameters of /v0 (topics v0 §2.3, §2.9): what does not parse is the default; the last of several counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from apps.core.api.pagination import decode_cursor, encode_cursor
from apps.core.digits import read_digits
from apps.core.errors import Invalid

if TYPE_CHECKING:
    from django.http import HttpRequest

PAGE_SIZE, PAGE_SIZE_MAX = 100, 1000

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class _Cursor(msgspec.Struct):
    after: str


def flag(request: HttpRequest, name: str, *, default: bool) -> bool:
    """Read a boolean."""
    query: bytes = request.scope["query_string"]  # type: ignore[attr-defined]
    if not query:
        return default
    if b"&" not in query and b"%" not in query and b"+" not in query:
        # One parameter with nothing escaped: reading it like a form would cost more than checking who calls.
        given, _, value = query.partition(b"=")
        return (
            _BOOLEANS.get(value.decode("latin-1"), default) if given == name.encode() else default
        )
    return _BOOLEANS.get(request.GET.get(name, ""), default)


def whole(request: HttpRequest, name: str, *, default: int) -> int:
    """Read an unsigned integer."""
    # An u64 has at most 20 digits.
    number = read_digits(request.GET.get(name, ""), most=20)
    return default if number is None else number


def page_size(request: HttpRequest) -> int:
    """Read how many rows a page has: 1 … 1000."""
    return min(max(whole(request, "page_size", default=PAGE_SIZE), 1), PAGE_SIZE_MAX)


def page_start(request: HttpRequest) -> str:
    """Read the name after which a page begins; raises Invalid for a cursor that we did not write."""
    given = request.GET.get("cursor", "")
    if not given:
        return ""
    after = decode_cursor(given, _Cursor).after
    if not after.isascii() or "\0" in after:
        raise Invalid.of([("cursor", "is not a cursor of this list")], where="query")
    return after


def next_cursor(last_name: str) -> str:
    """Write the cursor of the page that follows a name."""
    return encode_cursor(_Cursor(last_name))
