from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Invalid
from apps.core.strictjson import MAX_DEPTH, read_json, read_object

plain_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain_text,
    lambda inner: st.lists(inner) | st.dictionaries(plain_text, inner),
    max_leaves=30,
)


@given(documents, st.booleans())
def test_it_reads_what_any_writer_writes(document, ascii_only):
    assert read_json(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


def test_it_keeps_the_order_of_members():
    assert list(read_object(b'{"b":1,"a":2,"c":3}')) == ["b", "a", "c"]


def test_it_allows_white_space_around():
    assert read_json(b' \r\n\t{"a": 1}\n') == {"a": 1}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":1} x', "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":.5}', "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
        (b'{"a":"\x00"}', "not JSON"),
        (b'{"a":"\\x41"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
        (b'{"a":"\xc0\x80"}', "not UTF-8"),  # NUL, overlong
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),  # a surrogate, encoded
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":1,"b":{},"a":2}', 'member "a" is given twice'),
        (b'{"a":1,"\\u0061":2}', 'member "a" is given twice'),
        (b'[{"x":[{"a":1,"a":1}]}]', 'member "a" is given twice'),
        (b'{"a":"\\u0000"}', "NUL"),
        (b'{"\\u0000":1}', "NUL"),
        (b'[["\\\\\\u0000"]]', "NUL"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"\\udc00\\ud800"}', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (b'{"a":18446744073709551616}', "beyond 64 bits"),
        (b'{"a":-9223372036854775809}', "beyond 64 bits"),
        (b"9" * 1_000_000, "beyond 64 bits"),
        (b'{"a":1e400}', "too large"),
        (b'{"a":-1E+0400}', "too large"),
        (b'{"a":1' + b"0" * 400 + b".5}", "too large"),
    ],
)
def test_it_refuses(body, complaint):
    with pytest.raises(Invalid, match=complaint):
        read_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1e-400", 0.0),
        (b"999999999999999999e99", 999999999999999999e99),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"99999999999999999999999"', "9" * 23),
    ],
)
def test_it_takes_what_only_looks_bad(body, value):
    assert read_json(body) == value


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"]":', b"}]")]
)
def test_it_measures_depth_exactly(opening: bytes, closing: bytes):
    levels = len(opening.translate(None, b'"a]:'))
    times = MAX_DEPTH // levels

    def nested(count: int, core: bytes) -> bytes:
        return opening * count + core + closing * count

    assert read_json(nested(times, b'"[[[[{{{{ \\" [[["'))
    with pytest.raises(Invalid, match="deeper than 64"):
        read_json(nested(times, b"[]"))


def test_width_is_not_depth():
    assert len(read_json(b"[" + b"[],{}," * 1000 + b"[]]")) == 2001


@pytest.mark.parametrize(
    "bomb", [b"[" * 500_000, b'{"a":' * 200_000, b"[" * 500_000 + b"]" * 500_000]
)
def test_it_survives_a_depth_bomb(bomb):
    with pytest.raises(Invalid):
        read_json(bomb)


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"a"'])
def test_it_wants_an_object_where_one_is_expected(body):
    with pytest.raises(Invalid, match="must be a JSON object"):
        read_object(body)


@pytest.mark.parametrize(
    "text", [rb'"\\"', rb'"\\\"["', rb'"[\""', rb'"\\\\",["["]', rb'"]","]",[["]"]]']
)
def test_brackets_and_quotes_in_strings_are_not_counted(text: bytes):
    body = b"[" * 61 + text + b"]" * 61
    padded = b"[" + body + b",[]" * MAX_DEPTH + b"]"
    assert read_json(padded) == json.loads(padded)
    with pytest.raises(Invalid, match="deeper than 64"):
        read_json(b"[" * 3 + padded + b"]" * 3)
