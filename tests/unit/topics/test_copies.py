"""What a router makes of a record (topics v0 §16.3, §16.5, §16.7)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.topics.appending.batch import Record, compact_length
from apps.topics.routers.copies import Original, Route, copy_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def make_route(**over: Any) -> Route:
    return Route(
        **{
            "router": "r->s",
            "source": "s",
            "source_id": 7,
            "source_epoch": 1000,
            "dest_id": 9,
            "preserve_node": True,
            "preserve_tag": True,
            "stamps": False,
            **over,
        }
    )


def make_original(**over: Any) -> Original:
    fields = {
        "seq": 5, "size": 3, "kind": 0, "trail": None, "tag": "t", "node": "n", "data": "123", "meta": None,
    }  # fmt: skip
    return Original(**{**fields, **over})


def copied(original: Original, **over: Any) -> Record:
    copy = copy_of(original, make_route(**over))
    assert copy is not None
    return copy


def test_it_keeps_every_byte() -> None:
    text = '{ "b":1.0, "ü":"\\u0000" }'
    copy = copied(make_original(data=text, meta=text, size=40, kind=1))
    assert (copy.data, copy.meta, copy.size, copy.kind) == (text.encode(), text.encode(), 40, 1)
    assert (copy.tag, copy.node) == (b"t", b"n")


def test_it_leaves_out_what_is_not_preserved() -> None:
    copy = copied(make_original(), preserve_node=False, preserve_tag=False)
    assert (copy.tag, copy.node) == (None, None)


def test_it_remembers_the_way() -> None:
    first = copied(make_original())
    assert first.trail == b"7"
    second = copied(make_original(trail="7"), source_id=9, dest_id=11)
    assert second.trail == b"7 9"


@pytest.mark.parametrize("trail", ["9", "1 9", "9 1", "1 9 2"])
def test_it_does_not_come_back(trail: str) -> None:
    assert copy_of(make_original(trail=trail), make_route()) is None
    # 99 and 19 are other topics.
    assert copy_of(make_original(trail=trail.replace("9", "99")), make_route()) is not None


def test_it_ends_after_eight_routers() -> None:
    seven, eight = "1 2 3 4 5 6 8", "1 2 3 4 5 6 8 10"
    assert copied(make_original(trail=seven)).trail == b"1 2 3 4 5 6 8 7"
    assert copy_of(make_original(trail=eight), make_route()) is None


@given(meta=st.none() | JSON, spaces=st.booleans())
def test_a_stamp_keeps_the_meta_and_measures_it(meta: Any, spaces: bool) -> None:
    text = None if meta is None else json.dumps(meta, indent=1 if spaces else None)
    before = 0 if text is None else compact_length(text.encode())
    copy = copied(make_original(meta=text, size=3 + before), stamps=True)
    assert copy.meta is not None
    found = msgspec.json.decode(copy.meta)
    assert found.pop("_topics_router") == {
        "idempotency_key": "router:r->s:7:1000:5",
        "router": "r->s",
        "source_topic": "s",
        "source_topic_id": 7,
        "source_epoch": 1000,
        "source_seq": 5,
    }
    if isinstance(meta, dict):
        meta.pop("_topics_router", None)
        assert found == meta
    else:
        assert found == ({} if meta is None else {"_topics_original_meta": meta})
    assert copy.size == 3 + compact_length(copy.meta)


def test_a_stamp_spells_numbers_and_names_as_they_were() -> None:
    copy = copied(make_original(meta='{"z":1.50,"a":1e400, "z2": "\\u00e9"}', size=40), stamps=True)
    assert copy.meta is not None
    assert copy.meta.startswith(b'{"z":1.50,"a":1e400,"z2":"\\u00e9","_topics_router":{')


@pytest.mark.parametrize(("members", "wraps"), [(63, False), (64, True)])
def test_meta_with_no_room_for_another_member_is_wrapped(members: int, wraps: bool) -> None:
    meta = json.dumps({f"k{number}": 0 for number in range(members)})
    copy = copied(make_original(meta=meta), stamps=True)
    assert copy.meta is not None
    assert ("_topics_original_meta" in msgspec.json.decode(copy.meta)) is wraps
