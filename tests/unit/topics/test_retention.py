"""Which tombstone a cursor gets (topics v0 §8.4)."""

from __future__ import annotations

import pytest

from apps.topics.keeping.retention import Gap, Marks, gap_before


def marks(**over: int) -> Marks:
    return Marks(
        **{
            "head": 100,
            "earliest": 58,
            "cap_floor": 0,
            "ttl_floor": 57,
            "source_floor": 0,
            **over,
        }
    )


def test_the_example_of_the_spec():
    gap = gap_before(40, marks(head=93))
    assert gap == Gap(41, 57, "ttl", 58, 93)
    assert gap.missed_estimate == 17


@pytest.mark.parametrize("after", [57, 58, 99, 100])
def test_a_cursor_at_or_above_the_floor_has_missed_nothing(after: int):
    assert gap_before(after, marks()) is None


def test_deleted_records_are_silent():
    assert gap_before(57, marks(earliest=80)) is None


@pytest.mark.parametrize(
    ("floors", "reason"),
    [
        ({"cap_floor": 50, "ttl_floor": 0}, "cap"),
        ({"cap_floor": 0, "ttl_floor": 50}, "ttl"),
        ({"cap_floor": 50, "ttl_floor": 41}, "mixed"),
        ({"cap_floor": 50, "ttl_floor": 40}, "cap"),
        ({"cap_floor": 40, "ttl_floor": 40, "source_floor": 50}, "source_trim"),
        ({"cap_floor": 41, "ttl_floor": 0, "source_floor": 50}, "cap"),
    ],
)
def test_the_reason_is_whatever_reaches_into_the_gap(floors: dict[str, int], reason: str):
    gap = gap_before(40, marks(**floors))
    assert gap is not None
    assert gap.reason == reason


def test_the_tombstone_ends_at_the_floor_even_if_deletions_follow():
    gap = gap_before(0, marks(earliest=80))
    assert gap is not None
    assert (gap.gap_to, gap.earliest_seq) == (57, 58)


def test_a_cursor_beyond_the_head_belongs_to_another_topic():
    assert gap_before(101, marks(earliest=58)) == Gap(1, 100, "recreated", 58, 100)


@pytest.mark.parametrize(("head", "missed"), [(0, 1), (1, 1), (2, 2), (100, 100)])
def test_the_estimate_of_a_recreated_topic(head: int, missed: int):
    gap = gap_before(2**63 - 1, marks(head=head, earliest=head + 1, ttl_floor=0))
    assert gap is not None
    assert gap.missed_estimate == missed
