from __future__ import annotations

import pytest

from apps.core.errors import Invalid
from apps.core.strictyaml import read_object


def test_it_reads_what_json_could_say_in_order():
    text = b"name: x\nwhen: 2030-01-01\nsteps:\n  - {name: a, n: 1, f: 1.5, t: true, z: null}\n"
    assert list(read_object(text)) == ["name", "when", "steps"]
    assert read_object(text)["when"] == "2030-01-01"
    assert read_object(text)["steps"] == [{"name": "a", "n": 1, "f": 1.5, "t": True, "z": None}]


def test_plain_words_stay_text_where_json_has_no_such_thing():
    text = b"[yes, no, on, 010, 1:30, 0x1F, 1_000, .5, 1e3, -2, 1.0, true, null, ~, '']"
    assert read_object(b"a: " + text)["a"] == [
        "yes",
        "no",
        "on",
        "010",
        "1:30",
        "0x1F",
        "1_000",
        ".5",
        1000.0,
        -2,
        1.0,
        True,
        None,
        None,
        "",
    ]


def test_anchors_may_be_used():
    assert read_object(b"a: &x {n: 1}\nb: *x\nc: {<<: *x, m: 2}") == {
        "a": {"n": 1},
        "b": {"n": 1},
        "c": {"n": 1, "m": 2},
    }


BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%b]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        (b"- 1", "must be a JSON object"),
        (b"a: [1", "not YAML"),
        (b"a: 1\na: 2", "given twice"),
        (b"1: x", "must be a string"),
        (b"a: !!python/object:os.system {}", "not YAML"),
        (b"a: !!set {x}", "can't"),
        (b"a: !!float .nan", "can't"),
        (b"a: &a [*a]", "more than|nested too deeply|Circular"),
        (b"\xff", "not UTF-8"),
        (b"a: 99999999999999999999999", "beyond 64 bits"),
        (b'a: "\\0"', "NUL"),
        (BOMB, "more than 100000 values"),
        (b"[" * 3000, "not YAML|nested too deeply"),
        (b"a: 1\n---\nb: 2", "not YAML"),
    ],
)
def test_it_refuses_the_rest(text, message):
    with pytest.raises(Invalid, match=message):
        read_object(text)
