"""Bodies of writes that may have more records than are possible: refused before millions of records are made.

Of a body that has too many, the records beyond are looked at for being JSON, and no further.
"""

from __future__ import annotations

import threading

import msgspec

from apps.topics.api.bodies import parse, read_write
from apps.topics.appending.writes import MAX_RECORDS, RecordBody, WriteBody

# Counting costs half a microsecond a record. What is shorter can't have so many that making them takes long.
_LEAST_BYTES = 2 * 1024 * 1024


class _TooMany(Exception):
    """The body has more records than are possible, and reading it has been given up."""


class _Count(threading.local):
    records = 0


_count = _Count()


class _CountedRecord(RecordBody, gc=False):
    def __post_init__(self) -> None:
        _count.records += 1
        if _count.records > MAX_RECORDS:
            raise _TooMany


class _CountedBody(WriteBody, gc=False):
    records: list[_CountedRecord]  # type: ignore[assignment]


class _Envelope(WriteBody, gc=False):
    records: msgspec.Raw  # type: ignore[assignment]


_read_counted = msgspec.json.Decoder(_CountedBody)
_read_envelope = msgspec.json.Decoder(_Envelope)
_read_records = msgspec.json.Decoder(list[_CountedRecord])
_BEYOND = [RecordBody(msgspec.Raw(b"1"))] * (MAX_RECORDS + 1)


def parse_write(body: bytes) -> WriteBody:
    """Read a write; raises Invalid. If it has too many records, it is returned with some that are."""
    if len(body) < _LEAST_BYTES:
        return parse(read_write, body)
    _count.records = 0
    try:
        return parse(_read_counted, body)
    except _TooMany:
        envelope = parse(_read_envelope, body)
    # If `records` is there twice, the last one counts.
    _count.records = 0
    records: list[RecordBody]
    try:
        records = [*parse(_read_records, bytes(envelope.records))]
    except _TooMany:
        records = _BEYOND
    return WriteBody(
        records,
        node=envelope.node,
        idempotency_key=envelope.idempotency_key,
        create=envelope.create,
        config=envelope.config,
        disable_backpressure=envelope.disable_backpressure,
    )
