from __future__ import annotations

import json
import random
import struct
import sys

import pytest

from apps.core import jsonb
from apps.core.strictjson import read_json


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1e22, "10000000000000000000000.0"),
        (-1.5e20, "-150000000000000000000.0"),
        (1e16, "10000000000000000.0"),
        (1.0, "1.0"),
        (2**64 - 1, "18446744073709551615"),
        ([1e16], "[10000000000000000.0]"),
        (
            {"a": {"b": [1, 1e23]}, "c": "1e22,"},
            '{"a":{"b":[1,100000000000000000000000.0]},"c":"1e22,"}',
        ),
    ],
)
def test_a_float_keeps_a_fraction(value, written):
    assert jsonb.encode(value) == written


@pytest.mark.parametrize("value", [sys.float_info.max, -sys.float_info.max, 5e-324, 1e-7, 0.1])
def test_the_ends_of_the_range(value):
    assert json.loads(jsonb.encode({"n": value}))["n"] == value


def test_any_float_is_the_same_again_and_passes_our_door():
    rng = random.Random(1)
    for _ in range(2000):
        (value,) = struct.unpack("d", rng.randbytes(8))
        if value - value == 0:  # neither infinite nor not a number
            again = read_json(jsonb.encode([value]).encode())[0]
            assert (again, type(again)) == (value, float)
