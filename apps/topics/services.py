"""Writes to the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.core import pgarray, sql
from apps.core.sse import wakeups
from apps.topics import batch, queries, settling
from apps.topics.batch import Record
from apps.topics.states import RecordKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from apps.topics.batch import Placed

# Topics this process has seen. Only saves the look-up: a name here may have been deleted meanwhile.
_seen: set[str] = set()
_SEEN_MAX = 100_000


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A record to append; `data` and `meta` are JSON text and are stored as they are."""

    topic: str
    data: str
    tag: str | None = None
    node: str | None = None
    meta: str | None = None
    kind: int = RecordKind.MESSAGE


def append_events(records: Sequence[NewEvent], *, ensure: bool = True) -> None:
    """Append records to their topics, in this order within each, inside the caller's transaction.

    Call it last: from here to commit the topics are locked, and every other writer to them waits. Missing topics
    are created (`ensure`), else their records are dropped. A full topic that rejects takes these all the same: what
    has happened can't be refused. Readers are woken after commit.
    """
    batches: dict[str, list[Record]] = {}
    for event in records:
        batches.setdefault(event.topic, []).append(_record(event))
    if not batches:
        return
    if ensure:
        ensure_topics(batches)
    placed = _append(batches)
    lost = batches.keys() - placed.keys()
    if lost and ensure:
        # Deleted since this process saw them, or Postgres has come back from a crash. The second round may take its
        # locks out of order; Postgres would then end one of the two.
        _seen.difference_update(lost)
        settling.skip_lost_seqs()
        ensure_topics(lost)
        placed |= _append({name: batches[name] for name in lost})
    for topic in placed.values():
        if topic.has_cap:
            settling.evict(topic.topic_id, chunk=2 * len(batches[topic.name]))
    wakeups.announce_on_commit(*(queries.channel(name) for name in placed))


def ensure_topics(names: Collection[str]) -> list[str]:
    """Create those topics that are missing, with default config, and return their names."""
    unseen = sorted(set(names) - _seen)
    if not unseen:
        return []
    rows = sql.run_bound("topics/missing_topics", names=_texts(unseen)).rows
    missing = {row["name"] for row in rows}
    # Not those created here: nobody else sees them before this transaction has committed.
    remember(name for name in unseen if name not in missing)
    if not missing:
        return []
    created = sql.run_bound("topics/create_topics", names=_texts(sorted(missing))).rows
    return [row["name"] for row in created]


def remember(names: Iterable[str]) -> None:
    """Note topics that exist, so that appends needn't look first."""
    if len(_seen) > _SEEN_MAX:
        _seen.clear()
    _seen.update(names)


def forget() -> None:
    """Forget which topics exist, as a new process would."""
    _seen.clear()


def _append(batches: dict[str, list[Record]]) -> dict[str, Placed]:
    params = batch.append_params(batches, now=settling.now_ms(), roomy_only=False, relaxed=False)
    return batch.placed(sql.run_bound("topics/append_records", **params).rows)


def _texts(names: Collection[str]) -> pgarray.TextArray:
    return pgarray.texts([name.encode() for name in names])


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
