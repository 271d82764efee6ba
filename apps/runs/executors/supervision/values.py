"""Which JSON an op may hand in: what Postgres, the API and every client can carry."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_OUTPUTS_BYTES = 1024 * 1024
MAX_DEPTH = 64
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1
_KINDS = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


class Unacceptable(ValueError):
    """The JSON can't be taken; the message completes a sentence that begins with its source."""


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`, or raise Unacceptable saying exactly what is wrong."""
    if len(raw) > MAX_OUTPUTS_BYTES:
        raise Unacceptable(f"is over the limit of {MAX_OUTPUTS_BYTES} bytes (1 MiB)")
    if not raw.strip():
        raise Unacceptable("is empty, not a JSON object")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as exc:
        raise Unacceptable(f"is not UTF-8: bad byte at offset {exc.start}") from None
    except RecursionError:
        raise Unacceptable(f"is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as exc:
        raise Unacceptable(f"is not valid JSON: {exc}") from None
    except Unacceptable:
        raise
    except ValueError:  # int() refuses thousands of digits
        raise Unacceptable("has a number beyond 64 bits") from None
    if not isinstance(value, dict):
        kind = "null" if value is None else _KINDS[type(value)]
        raise Unacceptable(f"is not a JSON object: it is {kind}")
    refuse(value)
    return value


def refuse(value: Any) -> None:
    """Raise Unacceptable if a parsed JSON value has something that can't be carried."""
    problem = _problem(value, "", 1)
    if problem:
        raise Unacceptable(problem)


def clean_text(text: str) -> str:
    """Replace what Postgres can't store in text: U+0000 and unpaired surrogates."""
    return (
        text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def _refuse_constant(name: str) -> None:
    raise Unacceptable(f"contains {name}, which is not JSON")


def _problem(value: Any, path: str, depth: int) -> str:
    if isinstance(value, str):
        return _text_problem(value, path)
    if isinstance(value, int):
        return "" if _LOWEST <= value <= _HIGHEST else f"has a number beyond 64 bits{_at(path)}"
    if isinstance(value, float):
        # json reads 1e999 as infinity; x - x is 0 only for finite numbers.
        return "" if value - value == 0 else f"has a number beyond 64 bits{_at(path)}"
    if isinstance(value, (dict, list, tuple)):
        if depth > MAX_DEPTH:
            return f"is nested deeper than {MAX_DEPTH} levels"
        return _members_problem(value, path, depth)
    return ""


def _members_problem(value: Any, path: str, depth: int) -> str:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in pairs:
        problem = isinstance(key, str) and _text_problem(key, path)
        problem = problem or _problem(member, f"{path}.{key}" if path else str(key), depth + 1)
        if problem:
            return problem
    return ""


def _text_problem(text: str, path: str) -> str:
    if "\0" in text:
        return f"contains the character U+0000{_at(path)}"
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return f"contains an unpaired surrogate{_at(path)}"
    return ""


def _at(path: str) -> str:
    return f" at {clean_text(path[:200])}" if path else ""
