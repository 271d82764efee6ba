"""Keys of objects are read byte by byte, and what could lead elsewhere in any spelling is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Invalid
from apps.storage import keys

EXECUTION = b"0194c0de-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"s/a", "s/a"),
        (b"s/a%20b/c.tar.gz", "s/a b/c.tar.gz"),
        (b"s/%C3%A9t%C3%A9", "s/été"),
        (b"s%2Fa", "s/a"),
        (b"s/...", "s/..."),
        (b"s/.hidden/..b", "s/.hidden/..b"),
        (b"s/100%25", "s/100%"),
        (b"s/a%2Bb+c", "s/a+b+c"),
        (b"s/metadata/a", "s/metadata/a"),
        (b"s/a:b?c=d#e".replace(b"?", b"%3F").replace(b"#", b"%23"), "s/a:b?c=d#e"),
    ],
)
def test_it_reads_a_key(raw, name):
    assert keys.read_key(EXECUTION + b"/" + raw) == keys.Key(EXECUTION.decode(), name)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"s",
        b"/a",
        b"s/",
        b"s//a",
        b"s/a/",
        b"../s/a",
        b"s/../a",
        b"s/..",
        b"s/./a",
        b"s/%2e%2e/a",
        b"s/.%2E/a",
        b"s/%2e/a",
        b"s/..%2fa",
        b"s%2f..%2f..%2fetc%2fpasswd",
        b"s/%252e%252e/a",
        b"s/%25252e%25252e/a",
        b"s/..%252f..%252fetc",
        b"s/a%252f..%252fb",
        b"s/%25252525252525252e",
        b"s/%c0%ae%c0%ae/a",
        b"s/%c0%af/a",
        b"s/%e0%80%ae%e0%80%ae/a",
        b"s/%ff",
        b"s/%ed%a0%80",
        b"s/..\\a",
        b"s/..%5ca",
        b"s/..%255ca",
        b"s/a%5cb",
        b"s/a%00b",
        b"s/a%2500b",
        b"s/a%0ab",
        b"s/a%0d%0aSet-Cookie:x",
        b"s/a%7fb",
        b"s/metadata",
        b"s/a/metadata",
        b"s/a/%6detadata",
    ],
)
def test_it_refuses_what_is_none(raw):
    with pytest.raises(Invalid) as caught:
        keys.read_key(EXECUTION + b"/" + raw)
    assert caught.value.detail["where"] == "path"


def test_a_key_has_1024_bytes_at_most():
    room = 1024 - 37 - len("s/")
    assert keys.read_key(EXECUTION + b"/s/" + b"a" * room).name
    assert keys.read_key(b"tag/s/" + "é".encode() * (room // 2)).name
    with pytest.raises(Invalid, match="1024 bytes"):
        keys.read_key(EXECUTION + b"/s/" + b"a" * (room + 1))
    # However short the tag is, the key has the UUID in it.
    with pytest.raises(Invalid, match="1024 bytes"):
        keys.read_key(b"t/s/" + b"a" * (room + 1))


def test_it_refuses_a_key_without_an_execution():
    for raw in (b"/s/a", b"../s/a", b"%00/s/a"):
        with pytest.raises(Invalid):
            keys.read_key(raw)


@given(st.binary(max_size=60))
def test_whatever_is_read_stays_where_it_is(raw):
    try:
        name = keys.read_key(EXECUTION + b"/" + raw).name
    except Invalid:
        return
    assert not {"", ".", ".."} & set(name.split("/"))
    assert "\\" not in name
    assert "\0" not in name


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("s/a.md", ".md"),
        ("s/a.TAR.GZ", ".gz"),
        ("s/.env", ""),
        ("s/a", ""),
        ("s/a.", ""),
        ("s.x/a", ""),
    ],
)
def test_the_extension_is_that_of_the_last_segment(name, extension):
    assert keys.extension_of(name) == extension
