"""Whole numbers as people and programs write them in query strings, headers and paths. Pure."""

from __future__ import annotations

# A bigint has 19 digits. Python would read any script's digits, and underscores; and refuses thousands of them.
_MOST = 19


def read_digits(text: str, *, most: int = _MOST) -> int | None:
    """Read a number of at most `most` ASCII digits and nothing else; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= most else None
