from __future__ import annotations


class CannotStart(Exception):
    """Something on this machine keeps the stack from starting; the message says what to do about it."""
