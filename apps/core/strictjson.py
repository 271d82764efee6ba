"""One strict JSON reader for requests: what it lets through, Postgres can store and every client reads alike."""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any

from apps.core.errors import Invalid

JSON = Any

MAX_DEPTH = 64
LEAST_INTEGER, GREATEST_INTEGER = -(2**63), 2**64 - 1

# Only a number of such a shape can leave 64 bits or become infinite: 18 digits stay below 2^63, and a mantissa of 18 digits
# with an exponent of two below 1e118. Checking numbers one by one triples the cost, so it is done only if one is seen; and
# a search in translated bytes sees it ten times as fast as a regular expression.
_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_BIG_NUMBERS = (b"0" * 19, b"e000", b"e+000")
# A bracket as a step into or out of a level, in a signed byte.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# Raw UTF-8 can't carry a surrogate and the parser refuses a raw NUL: both come as escapes only.
_BAD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def read_json(body: bytes) -> JSON:
    """Parse a JSON document (RFC 8259).

    Raises Invalid for whatever is not JSON, and for: invalid UTF-8, a byte order mark, NaN and Infinity, repeated member
    names, nesting deeper than 64, integers beyond 64 bits, floats beyond a double, NUL and lone surrogates in strings.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Invalid(f"the body is not UTF-8 at byte {exc.start}") from exc
    if is_deeper(body, MAX_DEPTH):
        raise Invalid(f"the body is nested deeper than {MAX_DEPTH}")
    shapes = body.translate(_DIGITS_ALIKE)
    decoder = _CHECKING_NUMBERS if any(n in shapes for n in _BIG_NUMBERS) else _TRUSTING_NUMBERS
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as exc:
        message = f"the body is not JSON: {exc.msg} at line {exc.lineno} column {exc.colno}"
        raise Invalid(message) from exc
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


def is_deeper(body: bytes, limit: int) -> bool:
    """Say whether a JSON document nests deeper than `limit`, without parsing it; of other texts, whether they would.

    Strings are cut out, and of the rest all but the brackets, which are then added up.
    """
    if len(body) <= 2 * limit or body.count(b"[") + body.count(b"{") <= limit:
        return False
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    outside = b"".join(text.split(b'"')[::2]) if b'"' in text else text
    steps = memoryview(outside.translate(_STEPS, _NO_BRACKETS)).cast("b")
    return max(accumulate(steps), default=0) > limit


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
            try:
                item.encode()
            except UnicodeEncodeError as exc:
                raise Invalid("a string contains half a surrogate pair") from exc


_TRUSTING_NUMBERS = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_constant)
_CHECKING_NUMBERS = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_int=_integer, parse_float=_float
)
