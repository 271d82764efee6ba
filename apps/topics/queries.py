"""Reads of the log: each is one statement, so marks and records are of one snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core import lifespan, pgarray, sql
from apps.core.errors import Unavailable
from apps.core.sse import wakeups
from apps.topics.appending import batch
from apps.topics.keeping import eviction, settling
from apps.topics.keeping.retention import Gap, Marks, gap_before
from apps.topics.models import Topic
from apps.topics.names import can_be_looked_up
from apps.topics.names import channel as channel
from apps.topics.names import is_reserved as is_reserved
from apps.topics.names import is_topic_name as is_topic_name  # for other apps, too

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apps.topics.predicates import TagPredicate

# Cursors are unsigned 64-bit on the wire, and bigint is signed (topics v0 Appendix B.6).
MAX_SEQ = 2**63 - 1
# How many records a page with a node filter looks at: first, and when the filter has left it short.
_WINDOW = 2_000
_WINDOW_MAX = 20_000
# How often retention may be due again while a topic is read, for its config or the clock has changed.
_SETTLINGS = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it was written; `data` and `meta` are JSON text."""

    seq: int
    ts: int
    kind: int
    data: str
    tag: str | None
    node: str | None
    meta: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Records after a cursor, and the cursor that follows them."""

    records: list[Stored]
    next_after: int
    has_more: bool
    gap: Gap | None
    head: int


@dataclass(frozen=True, slots=True)
class JsonPage:
    """As `Page`, with the records as the JSON text of /v0, joined by commas."""

    topic_id: int
    body: bytes
    count: int
    scanned: int
    next_after: int
    gap: Gap | None
    marks: Marks

    @property
    def caught_up(self) -> bool:
        return self.next_after == self.marks.head


@dataclass(frozen=True, slots=True)
class Head:
    """Where a topic stands: its incarnation, the newest seq, and the bytes of the largest record it ever had."""

    topic_id: int
    seq: int
    largest: int


def find_head(topic: str) -> Head | None:
    """Return where a topic stands; None if there is no such topic."""
    row = Topic.objects.filter(name=topic).values_list("id", "head", "largest").first()
    return None if row is None else Head(*row)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is behind a position in a topic: the newest seq, and when its oldest record was written."""

    topic_id: int
    head: int
    oldest_ts: int | None


def backlogs(places: Sequence[tuple[str, int]]) -> list[Backlog | None]:
    """Return what is behind each of these positions, (topic, seq that was read last); None where there is no topic."""
    rows = _measured(places)
    for name in sorted({row["name"] for row in rows if row["unsettled"]}):
        settling.settle(name)
    # Settled once, this is what there is: an age and a number are shown, nothing is handed out by them.
    if any(row["unsettled"] for row in rows):
        rows = _measured(places)
    found: list[Backlog | None] = [None] * len(places)
    for row in rows:
        found[row["place"] - 1] = Backlog(row["id"], row["head"], row["ts"])
    return found


def _measured(places: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    if not places:
        return []
    names, positions = zip(*places, strict=True)
    return sql.run_bound(
        "topics/measure_backlogs",
        names=pgarray.texts([name.encode() for name in names]),
        positions=pgarray.bigints([min(position, MAX_SEQ) for position in positions]),
        now=eviction.now_ms(),
    ).rows


def read_after(topic: str, after: int, limit: int) -> Page | None:
    """Return up to `limit` records with a greater seq; None if there is no such topic."""
    if not can_be_looked_up(topic):
        return None
    params = _params(topic, after, limit)
    now = eviction.now_ms()
    rows = sql.run_bound("topics/read_after", now=now, **params).rows
    is_due = _is(rows, "unsettled")
    for _ in range(_SETTLINGS):
        if not is_due:
            return _page(rows, after, limit)
        settling.settle(topic)
        now = min(now, eviction.now_ms())
        rows = sql.run_bound("topics/read_after", now=now, **params).rows
        is_due = _is(rows, "is_stale")
    return _page(_read_at_last(rows), after, limit)


async def read_after_async(topic: str, after: int, limit: int) -> Page | None:
    """Do as `read_after` in the event loop."""
    if not can_be_looked_up(topic):
        return None
    rows = await _read_settled("topics/read_after", topic, **_params(topic, after, limit))
    return _page(rows, after, limit)


async def find_seq_before(topic: str, ts: int) -> int:
    """Return a cursor after which every record of a topic from `ts` (ms) on comes, and hardly any from before it."""
    return await find_seq(topic, lambda record: record.ts < ts)


async def find_seq(topic: str, is_before: Callable[[Stored], bool]) -> int:
    """Return a cursor after which every record comes that is not before some point, and hardly any that is.

    For what never falls with seq. It is found by halving: some twenty reads of one record for a million.
    """
    page = await read_after_async(topic, 0, 1)
    if page is None or not page.records:
        return 0
    low, high = page.records[0].seq - 1, page.head
    while low < high:
        middle = (low + high) // 2
        page = await read_after_async(topic, middle, 1)
        if page is None or not page.records or not is_before(page.records[0]):
            high = middle
        else:
            low = page.records[0].seq
    return low


async def read_newest(topic: str) -> tuple[int, Stored | None]:
    """Return where a topic stands: its head, and the record there, if that is still live."""
    page = await read_after_async(topic, 0, 1)
    if page is None:
        return 0, None
    last = await read_after_async(topic, page.head - 1, 1)
    found = [] if last is None else [one for one in last.records if one.seq == page.head]
    return page.head, found[0] if found else None


async def read_feed(topic: str, after: int, limit: int, *, wait: float = 0) -> Page:
    """Return the records after a cursor, waiting up to `wait` seconds for the first of them.

    A topic that does not exist is an empty page. A cursor beyond the head belongs to a deleted topic of this name:
    `gap.reason` is "recreated" and reading goes on at the earliest record.
    """
    with wakeups.subscribe(channel(topic)) as news:
        # Subscribed before the read: an append in between is kept as news (⚑45).
        page = await read_after_async(topic, after, limit) or _nothing(after)
        remaining = wait
        while not page.records and page.gap is None and not page.has_more:
            if remaining <= 0 or lifespan.is_draining():
                break
            started = time.monotonic()
            await news.wait(remaining)
            remaining -= time.monotonic() - started
            page = await read_after_async(topic, after, limit) or _nothing(after)
    return page


async def read_records(
    topic: str,
    *,
    after: int,
    limit: int,
    budget: int,
    nodes: Sequence[str] | None = None,
    tag: TagPredicate | None = None,
    with_tags: bool = False,
    with_meta: bool = True,
    with_data: bool = True,
) -> JsonPage | None:
    """Return the next records as JSON text, at most `limit` and `budget` bytes of payload, at least one.

    None if there is no such topic. Records of `nodes` are passed over, and those that `tag` doesn't match.
    """
    if not can_be_looked_up(topic):
        return None
    params: dict[str, Any] = {
        **_params(topic, after, limit),
        "budget": budget,
        "nodes": [batch.escape(node).decode() for node in nodes] if nodes else None,
        "tag": batch.escape(tag.text).decode() if tag and not tag.is_prefix else None,
        "tag_prefix": batch.escape(tag.text).decode() if tag and tag.is_prefix else None,
        "with_tags": with_tags,
        "with_meta": with_meta,
        "with_data": with_data,
    }
    rows = await _read_settled("topics/read_records", topic, window=_WINDOW, **params)
    if rows and (nodes or tag) and rows[0]["records"] < limit and rows[0]["scanned"] == _WINDOW:
        rows = await _read_settled("topics/read_records", topic, window=_WINDOW_MAX, **params)
    return _json_page(rows[0], after, limit) if rows else None


def _params(topic: str, after: int, limit: int) -> dict[str, Any]:
    return {"name": topic, "after": min(after, MAX_SEQ), "limit": limit}


async def _read_settled(statement: str, topic: str, **params: Any) -> list[dict[str, Any]]:
    """Read a topic, settled first if need be; `params` name it as the statement does.

    By the clock of the first look, or a topic that expires record by record would always be due; unless the clock has
    stepped back, by which the topic was settled then. For copies that are owed one look is enough (§16.4). But a page with no records because retention is due is none: who
    took it for one would go past what is neither delivered nor announced as lost.
    """
    now = eviction.now_ms()
    rows = (await sql.run_async(statement, now=now, **params)).rows
    is_due = _is(rows, "unsettled")
    for _ in range(_SETTLINGS):
        if not is_due:
            return rows
        await settling.settle_async(topic)
        now = min(now, eviction.now_ms())
        rows = (await sql.run_async(statement, now=now, **params)).rows
        is_due = _is(rows, "is_stale")
    return _read_at_last(rows)


def _is(rows: list[dict[str, Any]], mark: str) -> bool:
    return bool(rows) and bool(rows[0][mark])


def _read_at_last(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if _is(rows, "is_stale"):
        raise Unavailable("the retention of this topic was due again and again")
    return rows


def _marks(row: dict[str, Any]) -> Marks:
    return Marks(
        head=row["head"],
        earliest=row["earliest"],
        cap_floor=row["cap_floor"],
        ttl_floor=row["ttl_floor"],
        source_floor=row["source_floor"],
    )


def _nothing(after: int) -> Page:
    return Page([], after, has_more=False, gap=None, head=0)


def _page(rows: list[dict[str, Any]], after: int, limit: int) -> Page | None:
    if not rows:
        return None
    marks = _marks(rows[0])
    records = [
        Stored(
            seq=row["seq"],
            ts=row["ts"],
            kind=row["kind"],
            data=row["data"],
            tag=None if row["tag"] is None else batch.unescape(row["tag"]),
            node=None if row["node"] is None else batch.unescape(row["node"]),
            meta=row["meta"],
        )
        for row in rows
        if row["seq"] is not None
    ]
    full = len(records) == limit
    # Records deleted behind the last one are passed over with it; a gap ahead is left to the next page.
    next_after = records[-1].seq if full else rows[0]["until"]
    return Page(
        records=records,
        next_after=next_after,
        has_more=next_after < marks.head,
        gap=gap_before(after, marks, rows[0]["gap_end"]),
        head=marks.head,
    )


def _json_page(row: dict[str, Any], after: int, limit: int) -> JsonPage:
    marks = _marks(row)
    if row["overflow_seq"] is not None:
        next_after = row["overflow_seq"] - 1
    elif row["records"] == limit:
        next_after = row["last_seq"]
    elif row["scanned"] == _WINDOW_MAX:
        # The filter hid so much that the scan was cut; there may be more to find.
        next_after = row["scanned_to"]
    else:
        # The head, or the last seq before a gap, which the next page will tell of.
        next_after = row["until"]
    return JsonPage(
        topic_id=row["id"],
        body=row["body"] or b"",
        count=row["records"],
        scanned=row["scanned"],
        next_after=next_after,
        gap=gap_before(after, marks, row["gap_end"]),
        marks=marks,
    )
