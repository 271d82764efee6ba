"""Records that this process has just written to a topic, for watchers that stand right before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apps.topics.keeping.retention import Marks
from apps.topics.queries import JsonPage

if TYPE_CHECKING:
    from apps.topics.appending.batch import Record
    from apps.topics.appending.justwritten import Batch
    from apps.topics.watch.readings import Selection

# What is more is read: Postgres joins a long page faster than Python does, and nothing that long is pushed.
MOST_RECORDS = 100
MOST_BYTES = 64 * 1024


class Fresh:
    """The newest records of a topic in a row, as long as nothing else has been heard of it.

    An append is offered first and announced by a wake-up then, like any other. Another wake-up means that somebody else
    has written, or that something was deleted: what is there after that only a read can tell.
    """

    __slots__ = ("_heard_at", "_is_offered", "_records", "_size", "_topic_id")

    def __init__(self) -> None:
        self._topic_id = 0
        self._records: list[tuple[int, int, Record]] = []
        self._size = 0
        self._is_offered = False
        # When the wake-up of the last offer came, by the clock of the tails.
        self._heard_at = 0

    def offer(self, batch: Batch, *, changed: int) -> None:
        """Take records whose wake-up follows; `changed` is when the last one came."""
        is_whole = self._is_offered or self._heard_at == changed
        follows = self._records and self._records[-1][0] + 1 == batch.first_seq
        if not (is_whole and follows and batch.topic_id == self._topic_id):
            self._forget()
        self._topic_id = batch.topic_id
        self._records += [
            (seq, batch.ts, record) for seq, record in enumerate(batch.records, batch.first_seq)
        ]
        self._size += sum([record.size for record in batch.records])
        if len(self._records) > MOST_RECORDS or self._size > MOST_BYTES:
            self._forget()
        self._is_offered = True

    def hear(self, now: int) -> None:
        """Note that a wake-up has come: that of what was offered, if something was."""
        if self._is_offered:
            self._is_offered = False
            self._heard_at = now

    def take(self, *, changed: int) -> Run | None:
        """Return what there is and keep nothing; None if more has been heard of the topic than was offered."""
        records = self._records
        self._forget()
        if not records or self._heard_at != changed:
            return None
        return Run(self._topic_id, records)

    def _forget(self) -> None:
        self._records, self._size = [], 0


class Run(NamedTuple):
    """Records that follow each other up to the topic's head: seq, time and what was written."""

    topic_id: int
    records: list[tuple[int, int, Record]]

    def page(self, after: int, selection: Selection) -> JsonPage | None:
        """Return what a read after a seq would find; None if it takes a read to know."""
        first, head = self.records[0][0], self.records[-1][0]
        if selection.nodes or selection.tag is not None or not first <= after + 1 <= head:
            return None
        wanted = self.records[after + 1 - first :]
        if len(wanted) > selection.limit:
            return None
        if sum([record.size for _, _, record in wanted]) > selection.budget:
            return None
        return JsonPage(
            topic_id=self.topic_id,
            body=b",".join([_shown(*one, selection) for one in wanted]),
            count=len(wanted),
            scanned=len(wanted),
            next_after=head,
            gap=None,
            # To whoever stands right before them nothing was lost: no floor is of interest.
            marks=Marks(head, earliest=after + 1, cap_floor=0, ttl_floor=0, source_floor=0),
        )


def _shown(seq: int, ts: int, record: Record, selection: Selection) -> bytes:
    """Return a record as `read_records.sql` shows it."""
    tag = record.tag if selection.with_tags else None
    meta = record.meta if selection.with_meta else None
    return b'{"$seq":%d,"$ts":%d%b%b%b%b}' % (
        seq,
        ts,
        b"" if record.node is None else b',"$node":"%b"' % record.node,
        b"" if tag is None else b',"$tag":"%b"' % tag,
        b',"data":' + record.data if selection.with_data else b"",
        b"" if meta is None else b',"meta":' + meta,
    )
