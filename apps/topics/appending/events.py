"""What other apps write to the log, as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from apps.topics.appending import batch, writes
from apps.topics.appending.batch import Record
from apps.topics.states import RecordKind

if TYPE_CHECKING:
    from collections.abc import Sequence


class NewEvent(msgspec.Struct, frozen=True):
    """A record to append; `data` and `meta` are JSON text and are stored as they are."""

    topic: str
    data: str
    tag: str | None = None
    node: str | None = None
    meta: str | None = None
    kind: int = RecordKind.MESSAGE


def check_event(record: NewEvent) -> None:
    """Raise Invalid or RecordTooLarge for a record over the limits of what clients write (topics v0 §4.1)."""
    writes.check_record(
        writes.RecordBody(
            data=msgspec.Raw(record.data.encode()),
            tag=record.tag,
            node=record.node,
            meta=msgspec.Raw(b"" if record.meta is None else record.meta.encode()),
        )
    )


def batches_of(records: Sequence[NewEvent]) -> dict[str, list[Record]]:
    """Return what is stored of events, by topic."""
    batches: dict[str, list[Record]] = {}
    for event in records:
        batches.setdefault(event.topic, []).append(_record(event))
    return batches


def _record(event: NewEvent) -> Record:
    data = event.data.encode()
    meta = None if event.meta is None else event.meta.encode()
    return Record(
        data=data,
        meta=meta,
        size=batch.compact_length(data) + (0 if meta is None else batch.compact_length(meta)),
        tag=None if event.tag is None else batch.escape(event.tag),
        node=None if event.node is None else batch.escape(event.node),
        kind=event.kind,
    )
