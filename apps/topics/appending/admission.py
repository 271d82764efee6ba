"""Writes that must be judged before they are made: the topic may be missing, full or limited, the write a repetition.

All of a transaction's writes are judged under the locks of their topics and made by one statement; what is refused
leaves nothing behind, no topic either (topics v0 §12, ★7, ★22).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.core import asyncdb, pgarray, sql
from apps.core.errors import GyozaError, Invalid, Throttled
from apps.core.steps import carry_out_on
from apps.topics.appending import batch, quota
from apps.topics.appending.room import refusal, refusal_of_all
from apps.topics.config import TopicConfig
from apps.topics.errors import TopicNotFound
from apps.topics.keeping import eviction
from apps.topics.names import is_topic_name
from apps.topics.vitals import commits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from apps.core.asyncdb import Connection
    from apps.topics.appending.batch import Placed, Record


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    """One client's write: all of its records get consecutive seqs, or none exists."""

    topic: str
    records: list[Record]
    size: int
    key: bytes | None = None
    # Whether, and as what, the topic is created if it is missing.
    creates: bool = True
    config: TopicConfig | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a write."""

    first_seq: int
    last_seq: int
    created: bool = False
    deduped: bool = False
    append_ms: float = 0.0
    fsync_ms: float = 0.0
    has_listeners: bool = False


Outcome = Written | GyozaError


async def admit(appends: list[Append]) -> dict[Append, Outcome]:
    """Judge writes and make those that pass, in one transaction.

    What is missing in the answer has to come again: it repeats a key, or needs a topic, of this very transaction; or so
    much was due from a topic that nothing has been made.
    """
    trial = Trial(appends, may_come_again=True)
    try:
        async with asyncdb.transaction() as conn:
            await trial.carry_out(conn)
            committing = time.perf_counter()
    except eviction.Behind as exc:
        await eviction.evict_due_async(exc.topic)
        return {}
    commit_ms = (time.perf_counter() - committing) * 1000
    if trial.accepted:
        commits.here.committed(
            appends=len(trial.accepted),
            size=sum(append.size for append in trial.accepted),
            waited_ms=commit_ms if trial.waits_for_disk else None,
        )
    return trial.outcomes(commit_ms=commit_ms)


class Trial:
    """The state of one transaction; `beside` are topics it locks for its own reasons, in their place in the order."""

    def __init__(
        self,
        appends: list[Append],
        *,
        beside: Collection[str] = (),
        may_come_again: bool = False,
    ) -> None:
        self.appends = appends
        self.may_come_again = may_come_again
        self.beside = beside
        self.refused: dict[Append, GyozaError] = {}
        self.repeated: dict[Append, Written] = {}
        self.accepted: list[Append] = []
        self.creators: dict[str, Append] = {}
        self.created_ids: dict[str, int] = {}
        self.topics: dict[str, dict[str, Any]] = {}
        self.keys: dict[tuple[int, bytes], dict[str, Any]] = {}
        self.bytes_left: int | None = None
        self.now = eviction.now_ms()
        self.placed: dict[str, Placed] = {}
        self.append_ms = 0.0
        self.waits_for_disk = True

    async def carry_out(self, conn: Connection, *, relaxed: bool = True) -> None:
        """Judge and write; `relaxed` lets the transaction end without waiting for the disk if every topic allows it."""
        await self.create_missing(conn)
        await self.lock(conn)
        await self.find_keys(conn)
        self.judge()
        await self.write(conn, relaxed=relaxed)

    async def create_missing(self, conn: Connection) -> None:
        """Create the topics that are missing, each for the first write that may."""
        self.bytes_left = await carry_out_on(conn, quota.take_turn())
        # A name that can't be a topic's may hold what Postgres doesn't take as text.
        missing = await _missing(conn, {a.topic for a in self.appends if is_topic_name(a.topic)})
        for append in self.appends:
            if append.topic in missing or not is_topic_name(append.topic):
                self._consider_creator(append)
        if not self.creators:
            return
        await _run(conn, "topics/lock_quota")
        # What was created while we waited is there: writing to it is never refused.
        missing = await _missing(conn, self.creators)
        self.creators = {name: self.creators[name] for name in missing}
        room = None
        if settings.GYOZA_MAX_TOPICS:
            [found] = await _run(conn, "topics/count_topics")
            room = settings.GYOZA_MAX_TOPICS - found["topics"]
        for name in sorted(self.creators):
            creator = self.creators[name]
            if room is not None and len(self.created_ids) >= room:
                self.refused[creator] = Throttled(
                    "there are too many topics", limit="max_topics", max=settings.GYOZA_MAX_TOPICS
                )
                continue
            columns = (creator.config or TopicConfig()).columns()
            for row in await _run(conn, "topics/create_topic", name=name, **columns):
                self.created_ids[name] = row["id"]

    async def lock(self, conn: Connection) -> None:
        """Lock the topics, settled."""
        names = {append.topic for append in self._open()}.union(self.beside)
        self.topics = await eviction.lock_settled(
            conn, names, now=self.now, at_any_price=not self.may_come_again
        )

    async def find_keys(self, conn: Connection) -> None:
        """Look up the keys that were used before; under the locks nobody adds one."""
        wanted = [
            (self.topics[a.topic]["id"], a.key)
            for a in self._open()
            if a.key is not None and a.topic in self.topics
        ]
        if wanted:
            ids, keys = zip(*wanted, strict=True)
            rows = await _run(
                conn, "topics/find_keys", topic_ids=pgarray.bigints(ids), keys=pgarray.byteas(keys)
            )
            self.keys = {(row["topic_id"], bytes(row["key"])): row for row in rows}

    def judge(self) -> None:
        """Decide what is written: in order of arrival, each seeing what those before it have used up."""
        used_keys: set[tuple[str, bytes]] = set()
        for append in self._open():
            topic = self.topics.get(append.topic)
            creator = self.creators.get(append.topic)
            if topic is None or (creator is not None and creator is not append):
                # Deleted at this moment, or being created by another write: next time it is clear.
                continue
            if append.key is not None:
                if (append.topic, append.key) in used_keys:
                    continue
                used_keys.add((append.topic, append.key))
                if (earlier := self._earlier(append, append.key, topic)) is not None:
                    self.repeated[append] = earlier
                    continue
            refusal = self._refusal(append, topic)
            if refusal is not None:
                self.refused[append] = refusal
                continue
            topic["count"] += len(append.records)
            topic["bytes"] += append.size
            if self.bytes_left is not None:
                self.bytes_left -= append.size
            self.accepted.append(append)

    async def write(self, conn: Connection, *, relaxed: bool) -> None:
        """Make the writes that passed, remember their keys, and evict what they push out."""
        vain = [
            i for name, i in self.created_ids.items() if self.creators[name] not in self.accepted
        ]
        if vain:
            await _run(conn, "topics/forget_topics", ids=pgarray.bigints(vain))
        if not self.accepted:
            return
        batches: dict[str, list[Record]] = {}
        for append in self.accepted:
            batches.setdefault(append.topic, []).extend(append.records)
        params = batch.append_params(
            # The creation of a topic is always flushed (§9).
            batches,
            now=self.now,
            roomy_only=False,
            relaxed=relaxed and not self.created_ids,
        )
        started = time.perf_counter()
        rows = await _run(conn, "topics/append_records", **params)
        self.placed = batch.placed(rows)
        self.waits_for_disk = batch.waited_for_disk(rows)
        self.append_ms = (time.perf_counter() - started) * 1000
        keyed = [
            (self.placed[a.topic].topic_id, a.key, self.now, first, first + len(a.records) - 1)
            for a, first in self._positions()
            if a.key is not None
        ]
        if keyed:
            ids, keys, times, firsts, lasts = zip(*keyed, strict=True)
            await _run(
                conn,
                "topics/remember_keys",
                topic_ids=pgarray.bigints(ids),
                keys=pgarray.byteas(keys),
                times=pgarray.bigints(times),
                firsts=pgarray.bigints(firsts),
                lasts=pgarray.bigints(lasts),
            )
        for topic in self.placed.values():
            if topic.has_cap:
                chunk = 2 * len(batches[topic.name])
                await eviction.evict_async(conn, topic.topic_id, chunk=chunk)

    def outcomes(self, *, commit_ms: float) -> dict[Append, Outcome]:
        """Return what is to be answered, once it is committed."""
        found: dict[Append, Outcome] = {**self.refused, **self.repeated}
        for append, first in self._positions():
            topic = self.placed[append.topic]
            found[append] = Written(
                first_seq=first,
                last_seq=first + len(append.records) - 1,
                created=append.topic in self.created_ids,
                append_ms=self.append_ms,
                fsync_ms=commit_ms if topic.durable else 0.0,
                has_listeners=topic.has_listeners,
            )
        return found

    def _consider_creator(self, append: Append) -> None:
        # §5: create:false → 404 first, then bad name → 400.
        try:
            if not append.creates:
                raise TopicNotFound.of(append.topic)
            if not is_topic_name(append.topic):
                raise Invalid(f'"{append.topic}" is not a valid topic name')
            if append.config is not None:
                append.config.check_for(append.topic)
        except GyozaError as exc:
            self.refused[append] = exc
        else:
            self.creators.setdefault(append.topic, append)

    def _earlier(self, append: Append, key: bytes, topic: dict[str, Any]) -> Written | None:
        row = self.keys.get((topic["id"], key))
        if row is None or self.now - row["created_ts"] > topic["idempotency_window_ms"]:
            return None
        return Written(row["first_seq"], row["last_seq"], deduped=True)

    def _refusal(self, append: Append, topic: dict[str, Any]) -> GyozaError | None:
        """§8.3, then the quota."""
        return refusal(topic, len(append.records), append.size) or refusal_of_all(
            append.size, left=self.bytes_left, most=settings.GYOZA_MAX_TOTAL_BYTES
        )

    def _open(self) -> Iterable[Append]:
        return [append for append in self.appends if append not in self.refused]

    def _positions(self) -> Iterable[tuple[Append, int]]:
        """Yield each accepted write with its first seq."""
        following = {name: topic.first_seq for name, topic in self.placed.items()}
        for append in self.accepted:
            if append.topic in following:
                yield append, following[append.topic]
                following[append.topic] += len(append.records)


async def _missing(conn: Connection, names: Collection[str]) -> set[str]:
    rows = await _run(conn, "topics/missing_topics", names=_texts(sorted(names)))
    return {row["name"] for row in rows}


async def _run(conn: Connection, name: str, /, **params: Any) -> list[dict[str, Any]]:
    return (await sql.run_async(name, on=conn, **params)).rows


def _texts(names: list[str]) -> pgarray.TextArray:
    return pgarray.texts([name.encode() for name in names])
