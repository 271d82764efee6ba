"""Deleting records (topics v0 §14): what goes is found without a lock, and goes in one transaction.

Readers see all of it or nothing, writers wait only while rows go, and no statement looks at more than a window. A range
from the oldest record on isn't touched at all: `earliest` moves past it, and the sweep removes what is below.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apps.core import pgarray, sql
from apps.topics.appending import batch
from apps.topics.keeping import eviction
from apps.topics.names import can_be_looked_up
from apps.topics.queues import leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apps.topics.predicates import TagPredicate

# Records that one statement looks at, or deletes one by one.
_WINDOW = 50_000
# A window of which more than this part goes is remembered as a range: eight bytes each would add up.
_DENSE = 1 / 8


@dataclass(frozen=True, slots=True)
class Marks:
    """What a topic was when a plan was made."""

    topic_id: int
    head: int
    earliest: int
    count: int
    bytes: int

    def only_grew_into(self, later: Marks) -> bool:
        """Say whether nothing but appends lies between: only they raise head and count alike."""
        return (self.topic_id, self.earliest) == (
            later.topic_id,
            later.earliest,
        ) and later.count - self.count == later.head - self.head


@dataclass(frozen=True, slots=True)
class Removed:
    """How many records went, and what the topic is without them."""

    deleted: int
    head: int
    earliest: int
    count: int
    bytes: int


@dataclass(slots=True)
class TrimPlan:
    """To move the oldest live record up to `before`; `records` and `bytes` are in front of it."""

    marks: Marks
    before: int
    records: int
    bytes: int


@dataclass(slots=True)
class TagPlan:
    """To delete records by tag: some one by one, some by windows in which most go."""

    marks: Marks
    match: TagPredicate
    seqs: array[int] = field(default_factory=lambda: array("q"))
    dense: list[tuple[int, int]] = field(default_factory=list)


Plan = TrimPlan | TagPlan


def plan(name: str, *, before: int | None, match: TagPredicate | None) -> Plan | None:
    """Find what a deletion takes away, up to the present head; None if there is no such topic."""
    marks = _read_marks(name)
    if marks is None:
        return None
    end = marks.head + 1 if before is None else min(before, marks.head + 1)
    return _trim_plan(marks, end) if match is None else _tag_plan(marks, end, match)


def lock(name: str) -> Marks | None:
    """Lock a topic until the transaction ends, with its retention done; None if there is none."""
    leftovers.lock(name)
    eviction.skip_lost_seqs()
    for row in sql.run_bound("topics/lock_topic", name=name).rows:
        eviction.evict(row["id"])
    return _read_marks(name)


def carry_out(plan: Plan, now: Marks) -> Removed | None:
    """Delete in the transaction that holds the topic's lock; None if the plan doesn't fit the topic any more."""
    if isinstance(plan, TagPlan):
        if plan.marks.topic_id != now.topic_id:
            return None
        records, size = _delete(plan)
        leftovers.let_go(now.topic_id)
        return _take_away(now, first=now.earliest, records=records, size=size)
    if not plan.marks.only_grew_into(now):
        return None
    return _take_away(now, first=plan.before, records=plan.records, size=plan.bytes)


def _read_marks(name: str) -> Marks | None:
    if not can_be_looked_up(name):
        return None
    found = sql.run_bound("topics/read_marks", name=name).rows
    return Marks(**found[0]) if found else None


def _trim_plan(marks: Marks, before: int) -> TrimPlan:
    # What goes and what stays add up to what is known: the shorter of the two is counted.
    if before <= marks.earliest:
        records, size = 0, 0
    elif before - marks.earliest <= marks.head + 1 - before:
        records, size = _measure(marks.topic_id, marks.earliest, before - 1)
    else:
        left, left_size = _measure(marks.topic_id, before, marks.head)
        records, size = marks.count - left, marks.bytes - left_size
    return TrimPlan(marks, before, records, size)


def _measure(topic_id: int, first: int, last: int) -> tuple[int, int]:
    records = size = 0
    after: int | None = first - 1
    while after is not None and after < last:
        [row] = sql.run_bound(
            "topics/measure_records", topic_id=topic_id, after=after, last=last, window=_WINDOW
        ).rows
        records += row["records"]
        size += row["bytes"]
        after = row["measured_to"]
    return records, size


def _tag_plan(marks: Marks, end: int, match: TagPredicate) -> TagPlan:
    found = TagPlan(marks, match)
    after, last = marks.earliest - 1, end - 1
    while after < last:
        [row] = sql.run_bound(
            "topics/find_tagged",
            topic_id=marks.topic_id,
            after=after,
            last=last,
            window=_WINDOW,
            **_tags(match),
        ).rows
        if not row["scanned"]:
            break
        seqs = row["seqs"] or []
        if len(seqs) > row["scanned"] * _DENSE:
            found.dense.append((seqs[0], seqs[-1]))
        else:
            found.seqs.extend(seqs)
        after = row["scanned_to"]
    return found


def _delete(plan: TagPlan) -> tuple[int, int]:
    records = size = 0
    for gone in (*_delete_windows(plan), *_delete_seqs(plan)):
        records += gone["records"]
        size += gone["bytes"]
    return records, size


def _delete_windows(plan: TagPlan) -> Iterator[dict[str, int]]:
    for first, last in plan.dense:
        yield sql.run_bound(
            "topics/delete_tagged",
            topic_id=plan.marks.topic_id,
            first=first,
            last=last,
            **_tags(plan.match),
        ).rows[0]


def _delete_seqs(plan: TagPlan) -> Iterator[dict[str, int]]:
    for start in range(0, len(plan.seqs), _WINDOW):
        seqs = pgarray.bigints(plan.seqs[start : start + _WINDOW])
        yield sql.run_bound("topics/delete_seqs", topic_id=plan.marks.topic_id, seqs=seqs).rows[0]


def _take_away(now: Marks, *, first: int, records: int, size: int) -> Removed:
    if not records:
        return Removed(0, now.head, now.earliest, now.count, now.bytes)
    [row] = sql.run_bound(
        "topics/take_away", topic_id=now.topic_id, first=first, records=records, bytes=size
    ).rows
    return Removed(records, **row)


def _tags(match: TagPredicate) -> dict[str, str | None]:
    text = batch.escape(match.text).decode()
    return {"tag": None, "prefix": text} if match.is_prefix else {"tag": text, "prefix": None}
