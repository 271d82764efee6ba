"""One strict JSON reader for requests: what it lets through, Postgres can store and every client reads alike."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from apps.core.errors import Invalid

JSON = Any

MAX_DEPTH = 64
LEAST_INTEGER, GREATEST_INTEGER = -(2**63), 2**64 - 1

# Only such a number can leave 64 bits or become infinite: 18 digits stay below 2^63, and a mantissa of 18 digits with an
# exponent of two below 1e118. Checking numbers one by one costs three times the parse, so it is done only then.
_BIG_NUMBER = re.compile(rb"[0-9]{19}|[eE]\+?[0-9]{3}")
# Raw UTF-8 can't carry a surrogate and the parser refuses a raw NUL: both come as escapes only.
_BAD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_ONE_BRACKET = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


def read_json(body: bytes) -> JSON:
    """Parse a JSON document (RFC 8259).

    Raises Invalid for whatever is not JSON, and for: invalid UTF-8, a byte order mark, NaN and Infinity, repeated member
    names, nesting deeper than 64, integers beyond 64 bits, floats beyond a double, NUL and lone surrogates in strings.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Invalid(f"the body is not UTF-8 at byte {exc.start}") from exc
    decoder = _CHECKING_NUMBERS if _BIG_NUMBER.search(body) else _TRUSTING_NUMBERS
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as exc:
        message = f"the body is not JSON: {exc.msg} at line {exc.lineno} column {exc.colno}"
        raise Invalid(message) from exc
    except RecursionError as exc:
        raise _too_deep() from exc
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth_exceeds(body, MAX_DEPTH):
        raise _too_deep()
    if _BAD_ESCAPE.search(body):
        _refuse_bad_text(value)
    return value


def read_object(body: bytes) -> dict[str, JSON]:
    """Parse a JSON object; raises Invalid for anything else."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise Invalid("the body must be a JSON object")
    return value


def _members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Invalid(f"the member {_shown(name)} is given twice")
            seen.add(name)
    return members


def _integer(digits: str) -> int:
    # Length first: converting a million digits takes minutes.
    if len(digits) > 20 or not LEAST_INTEGER <= (number := int(digits)) <= GREATEST_INTEGER:
        raise Invalid(f"the integer {_shown(digits)} is beyond 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Invalid(f"the number {_shown(digits)} is too large")
    return number


def _constant(name: str) -> float:
    raise Invalid(f"{name} is not JSON")


def _shown(text: str) -> str:
    short = text if len(text) <= 40 else f"{text[:39]}…"
    return json.dumps(short)


def _too_deep() -> Invalid:
    return Invalid(f"the body is nested deeper than {MAX_DEPTH}")


def _depth_exceeds(document: bytes, limit: int) -> bool:
    """Say whether a *valid* document nests deeper than `limit`.

    Keeps nothing but brackets, then removes the innermost pairs, `limit` times: each round is one pass in C, whereas a
    walk in Python over a megabyte of brackets takes 30 times as long.
    """
    left = _STRING.sub(b"", document).translate(_ONE_BRACKET, _NO_BRACKET)
    for _ in range(limit):
        if not left:
            return False
        left = left.replace(b"[]", b"")
    return bool(left)


def _refuse_bad_text(value: JSON) -> None:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item)
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, str):
            if "\x00" in item:
                raise Invalid("a string contains NUL (U+0000)")
            if not item.isascii() and any("\ud800" <= char <= "\udfff" for char in item):
                raise Invalid("a string contains half a surrogate pair")


_TRUSTING_NUMBERS = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant)
_CHECKING_NUMBERS = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_int=_integer, parse_float=_float
)
