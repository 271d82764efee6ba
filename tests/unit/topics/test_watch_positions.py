"""The id of a watch and what it does to a position (topics v0 §17.4, ⚑21)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.topics.watch.positions import MAX_ID_LENGTH, Position, decode_id, encode_id, resumed

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
    assert told is None or all(seq >= 0 for _, seq in told.values())


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
