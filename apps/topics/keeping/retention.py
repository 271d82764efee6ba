"""What a reader has missed (topics v0 §8.4): pure arithmetic on a topic's marks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Marks:
    """The watermarks of a topic in one snapshot (§8.1)."""

    head: int
    earliest: int
    cap_floor: int
    ttl_floor: int
    source_floor: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A range that was lost without anyone asking, as a tombstone tells it; both ends included."""

    gap_from: int
    gap_to: int
    reason: str
    earliest_seq: int
    head_seq: int

    @property
    def missed_estimate(self) -> int:
        # `recreated` on an empty topic spans 1 … 0 and still counts as one (§8.4).
        return max(self.gap_to - self.gap_from, 0) + 1


def gap_before(after: int, marks: Marks, gap_end: int | None = None) -> Gap | None:
    """Return what a reader with this cursor has lost; None if nothing.

    `gap_end` is the end of the gap between live records that its next seq is in, if it is in one.
    """
    if after > marks.head:
        # The topic was deleted and created again: the cursor belongs to its predecessor.
        return Gap(1, marks.head, "recreated", marks.earliest, marks.head)
    gap_from = after + 1
    floor = max(marks.cap_floor, marks.ttl_floor, marks.source_floor)
    if after >= floor:
        if gap_end is None:
            return None
        return Gap(gap_from, gap_end, "source_trim", gap_end + 1, marks.head)
    by_cap, by_ttl = marks.cap_floor >= gap_from, marks.ttl_floor >= gap_from
    reason = (
        "mixed" if by_cap and by_ttl else "cap" if by_cap else "ttl" if by_ttl else "source_trim"
    )
    # ⚑19: the tombstone's own earliest is the end of the gap, whatever was deleted behind it.
    return Gap(gap_from, floor, reason, floor + 1, marks.head)
