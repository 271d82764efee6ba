"""What answers of /v0 have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core.dataplane import respond

if TYPE_CHECKING:
    from apps.core.slim import Answer
    from apps.topics.appending.admission import Written

_json = msgspec.json.encode


def written_members(topic: str, written: Written, started: float, *, seqs: bytes) -> bytes:
    """Return the members that tell of a write (§12), without the opening brace; `seqs` is what is said of each."""
    performance = b'"server_total_ms":%.3f' % ms_since(started)
    if not written.deduped:
        performance += b',"wal_append_ms":%.3f,"fsync_ms":%.3f' % (
            written.append_ms,
            written.fsync_ms,
        )
    return (
        b'"topic":%b,"first_seq":%d,"last_seq":%d%b,"head_seq":%d,"count":%d,"created":%b,"deduped":%b,"performance":{%b}}'
    ) % (
        _json(topic),
        written.first_seq,
        written.last_seq,
        seqs,
        written.last_seq,
        written.last_seq - written.first_seq + 1,
        _json(written.created),
        _json(written.deduped),
        performance,
    )


def seqs_member(written: Written) -> bytes:
    """Return the member with the seq of each record of a write."""
    return b',"seqs":%b' % _json(list(range(written.first_seq, written.last_seq + 1)))


def ms_since(started: float) -> float:
    """Return the milliseconds since a reading of the performance counter."""
    return (time.perf_counter() - started) * 1000


def finished(answer: dict[str, object], started: float, status: int = 200) -> Answer:
    """Answer with how long it took (§2.7)."""
    performance = {"server_total_ms": round(ms_since(started), 3)}
    return respond(msgspec.json.encode({**answer, "performance": performance}), status)
