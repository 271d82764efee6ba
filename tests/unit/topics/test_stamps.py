"""The stamps of dead letters (topics v0 §18.7)."""

from __future__ import annotations

import pytest

from apps.topics.queues import stamps

MARKS = {
    "$dead_letter_from": "q",
    "$dead_letter_deliveries": "3",
    "$dead_letter_src_seq": "7",
}


def test_an_objects_own_members_keep_their_order_and_spelling():
    stamped = stamps.add('{"z": 1.50, "a":"\\u00e4"}', queue="q", deliveries=3, seq=7)
    assert stamped.startswith(b'{"z":1.50,"a":"\\u00e4","$dead_letter_from":"q"')
    assert stamps.remove(stamped.decode()) == (MARKS, b'{"z":1.50,"a":"\\u00e4"}')


@pytest.mark.parametrize("meta", [None, '"text"', "[1]", "5", "true"])
def test_what_is_no_object_is_replaced(meta: str | None):
    stamped = stamps.add(meta, queue="q", deliveries=3, seq=7).decode()
    assert stamps.remove(stamped) == (MARKS, None)


def test_earlier_stamps_are_replaced():
    once = stamps.add(None, queue="other", deliveries=1, seq=1).decode()
    assert stamps.remove(stamps.add(once, queue="q", deliveries=3, seq=7).decode()) == (MARKS, None)


def test_stamps_that_are_no_strings_are_nobodys():
    assert stamps.remove('{"$dead_letter_from":5,"x":1}') == ({}, b'{"x":1}')
    assert stamps.remove(None) == ({}, None)
    assert stamps.remove("[1]") == ({}, b"[1]")


def test_the_text_that_is_looked_for_is_how_stamps_are_written():
    stamped = stamps.add('{"a":1}', queue="a-1.b:c_d", deliveries=3, seq=7).decode()
    assert stamps.text_of("a-1.b:c_d") in stamped
