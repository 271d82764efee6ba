"""The id of a watch and what it does to a position (topics v0 §17.4, ⚑21)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.topics.watch.positions import (
    JOINED,
    MAX_ID_LENGTH,
    Position,
    Unnamed,
    decode_id,
    encode_id,
    encode_unnamed,
    is_long,
    joined,
    resumed,
)
from apps.topics.watch.readings import Selection
from apps.topics.watch.sessions import Subscription, resume

if TYPE_CHECKING:
    from apps.topics.watch.positions import Told

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
SEQS = st.integers(0, 2**63 - 1)


def test_it_is_the_example_of_the_specification():
    positions = {"parcels:all": Position(8, 61), "greenhouse.temps": Position(7, 93)}
    assert encode_id(positions) == "eyJncmVlbmhvdXNlLnRlbXBzIjo5MywicGFyY2VsczphbGwiOjYxfQ"


@given(st.dictionaries(NAMES, st.tuples(st.integers(1, 2**40), SEQS, st.booleans()), min_size=1))
def test_what_is_encoded_is_decoded(said: dict[str, tuple[int, int, bool]]):
    positions = {
        name: Position(incarnation + is_anew, seq, 0, incarnation)
        for name, (incarnation, seq, is_anew) in said.items()
    }
    told = decode_id(encode_id(positions))
    assert told == {
        name: (position.incarnation if said[name][2] else None, position.seq)
        for name, position in positions.items()
    }


@given(st.dictionaries(NAMES, SEQS, min_size=1))
def test_it_is_a_plain_map_while_no_topic_was_recreated(seqs: dict[str, int]):
    text = encode_id({name: Position(1, seq) for name, seq in seqs.items()})
    assert json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4))) == seqs


def test_a_seq_that_is_only_said_stands_beside_the_exact_one():
    text = encode_id({"t": Position(9, 0, 5, 4)}, said={"t": 5})
    assert json.loads(urlsafe_b64decode(text + "==")) == {"t": 5, "$": {"t": [9, 0]}}
    assert decode_id(text) == {"t": (9, 0)}


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_anything_may_be_given(text: str):
    told = decode_id(text)
    if isinstance(told, dict):
        assert all(seq >= 0 for _, seq in told.values())


@given(st.dictionaries(NAMES, st.tuples(st.integers(1, 2**40), SEQS, st.booleans()), min_size=1))
def test_the_session_supplies_the_names_that_an_id_leaves_out(
    said: dict[str, tuple[int, int, bool]],
):
    positions = {
        name: Position(incarnation + is_anew, seq, 0, incarnation)
        for name, (incarnation, seq, is_anew) in said.items()
    }
    told = decode_id(encode_unnamed(positions))
    assert isinstance(told, Unnamed)
    assert told.named(positions) == decode_id(encode_id(positions))
    assert told.named([*list(positions)[1:], "another"]) == {}


def test_an_id_without_names_says_of_a_recreated_topic_where_it_is_read():
    told = decode_id(encode_unnamed({"t": Position(9, 0, 5, 9)}, said={"t": 5}))
    assert isinstance(told, Unnamed)
    assert told.named(["t"]) == {"t": (9, 0)}


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["0"],
        ["0", []],
        [1, [1], {}],
        ["0", [-1], {}],
        ["0", [2**63], {}],
        ["0", [[1]], {}],
        ["0", [None], {}],
        ["0", [1], {"0": 0}],
        ["0", [1], {"a": 1}],
    ],
)
def test_what_was_never_told_is_no_id(said: list[Any]):
    text = urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    assert decode_id(text) is None


def test_the_longest_id_is_one_that_proxies_take_as_a_header():
    names = [f"{number}".rjust(255, "x") for number in range(256)]
    assert is_long(names)
    assert len(encode_unnamed({name: Position(1, 10**8) for name in names})) < 8192
    few = {name: Position(1, 2**63 - 1) for name in names[:18]}
    assert not is_long(few)
    assert len(encode_id(few)) < 8192


def test_an_endless_id_is_none():
    assert decode_id("e" * (MAX_ID_LENGTH + 1)) is None
    deep = encode_id({"t": Position(1, 1)}).replace("e", "W", 1) * 20_000
    assert decode_id(deep) is None


STORED = Position(5, 10, head=12, first_incarnation=4)


@pytest.mark.parametrize(
    ("told", "exact", "expected"),
    [
        ((5, 3), True, (5, 3)),  # rewinds
        ((5, 10), True, (5, 10)),
        ((5, 99), True, (5, 10)),  # never advances
        ((6, 1), True, (5, 10)),
        ((None, 99), True, (4, 99)),  # told of the topic before it was recreated
        ((None, 3), True, (4, 3)),
        ((5, 99), False, (5, 99)),  # the row lags behind what was sent
        ((6, 1), False, (6, 1)),
        ((5, 3), False, (5, 3)),
    ],
)
def test_a_client_goes_on_where_it_was_told_to(
    told: tuple[int | None, int], exact: bool, expected: tuple[int, int]
):
    position = resumed(STORED, told, is_exact=exact)
    assert (position.incarnation, position.seq) == expected
    assert (position.head, position.first_incarnation) == (12, 4)


def subscribed(*ranges: tuple[str, str]) -> Subscription:
    return Subscription(Selection(1, 1), 1000, ranges)


def where(positions: dict[str, Position]) -> dict[str, tuple[int, int]]:
    return {name: (one.incarnation, one.seq) for name, one in positions.items()}


def test_the_id_of_another_session_advances_nothing():
    """Not even when the positions lag behind what was sent, and the client could know better."""
    stored = {"a": Position(1, 5), "b": Position(2, 5)}
    told: dict[str, Told] = {"a": (None, 99), "c": (None, 99)}
    found = resume(subscribed(), stored, told, is_exact=False)
    assert where(found) == {"a": (1, 5), "b": (2, 5)}
    told = {"a": (None, 99), "b": (None, 3)}
    found = resume(subscribed(), stored, told, is_exact=False)
    assert where(found) == {"a": (1, 99), "b": (2, 3)}


def test_an_id_brings_in_no_more_topics_than_a_watch_may_have_and_only_those_it_asked_for():
    told: dict[str, Told] = {f"a.{number}": (7, 1) for number in range(5_000)}
    told |= {"b.1": (7, 1)}
    for is_exact in (True, False):
        found = resume(subscribed(("a.", "a.~")), {"z": Position(1, 5)}, told, is_exact=is_exact)
        assert len(found) == 256
        assert "b.1" not in found


@pytest.mark.parametrize(
    ("told", "exact", "expected"),
    [
        ((7, 5), False, (7, 5)),  # joined, and the row doesn't know yet
        ((7, 5), True, (7, 0)),  # the row knows best: if it is there, then from its beginning
        ((None, 5), False, (JOINED, 0)),  # was there from the beginning, and has been deleted since
        ((None, 5), True, (JOINED, 0)),
    ],
)
def test_a_topic_that_the_session_does_not_have(told: Told, exact: bool, expected: tuple[int, int]):
    position = joined(told, is_exact=exact)
    assert (position.incarnation, position.seq) == expected
    assert position.first_incarnation == JOINED
