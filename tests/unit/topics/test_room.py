"""What fits into a topic that rejects (topics v0 §8.3)."""

from __future__ import annotations

from typing import Any

import pytest

from apps.topics.appending.room import Room


def make_room(*, discard: str = "reject", **over: Any) -> Room:
    columns = {"cap_records": 0, "cap_bytes": 0, "count": 0, "bytes": 0, **over}
    return Room.of({"discard": discard, **columns})


@pytest.mark.parametrize(
    ("room", "records", "size", "never", "full"),
    [
        ({}, 10_000, 1 << 40, False, False),
        ({"cap_records": 2}, 2, 99, False, False),
        ({"cap_records": 2}, 3, 99, True, True),
        ({"cap_records": 2, "count": 1, "bytes": 9}, 2, 99, False, True),
        ({"cap_bytes": 10}, 5, 10, False, False),
        ({"cap_bytes": 10}, 1, 11, True, True),
        ({"cap_bytes": 10, "count": 1, "bytes": 1}, 1, 10, False, True),
    ],
)
def test_it_judges_by_both_caps(
    room: dict[str, Any], records: int, size: int, never: bool, full: bool
) -> None:
    found = make_room(**room)
    assert found.can_never_take(records, size) is never
    assert found.is_full_for(records, size) is full


def test_what_is_taken_counts() -> None:
    room = make_room(cap_records=2)
    room.take(1, 5)
    assert not room.is_full_for(1, 5)
    room.take(1, 5)
    assert room.is_full_for(1, 5)


def test_a_topic_that_discards_takes_anything() -> None:
    room = make_room(discard="old", cap_records=1, cap_bytes=1, count=1, bytes=1)
    assert not room.is_full_for(100, 100)
    assert not room.can_never_take(100, 100)
