"""JSON on its way into a jsonb column, so that it comes out as it went in.

Postgres keeps a number there as a decimal: 1e22 would come out as an integer of 23 digits, which is another type for who
reads it and beyond the 64 bits that our own door lets through. A fraction, be it .0, is kept.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
from django.db import models

JSON = Any

# From here on a float is written with an exponent.
_EXPONENT_FROM = 1e16
# A number with a great exponent, at its end: searched for in bytes, since walking every value would cost more than writing it.
_ALIKE = bytes.maketrans(b"123456789}]", b"000000000,,")
_BIG_FLOATS = (b"0e00,", b"0e000,")


def encode(value: JSON) -> str:
    """Write a value as JSON in which every float has a fraction or an exponent below zero."""
    written = msgspec.json.encode(value)
    shapes = written.translate(_ALIKE) + b","
    if any(shape in shapes for shape in _BIG_FLOATS):
        written = msgspec.json.encode(_with_fractions(value))
    return written.decode()


def _with_fractions(value: JSON) -> JSON:
    if isinstance(value, float) and abs(value) >= _EXPONENT_FROM:
        return msgspec.Raw(f"{Decimal(repr(value)):f}.0".encode())
    if isinstance(value, dict):
        return {name: _with_fractions(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_fractions(item) for item in value]
    return value


class _Encoder(json.JSONEncoder):
    def encode(self, o: JSON) -> str:
        return encode(o)


class Field(models.JSONField):
    """A model's JSONField that is written so. To migrations it is Django's own: the column is the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "encoder": _Encoder})

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        del kwargs["encoder"]
        return str(name), "django.db.models.JSONField", list(args), kwargs
