"""Group commit: appends that arrive while one transaction is under way go together into the next.

One commit then serves many clients, and a hot topic's lock is taken once for all of them. A group is one statement that
is its own transaction; only what can't be made unseen (`admission`) takes a longer way. Nobody waits on purpose: the
first append starts at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import psycopg
from django.conf import settings

from apps.core import sql
from apps.core.errors import GyozaError, Throttled
from apps.topics.appending import batch, justwritten, listeners
from apps.topics.appending.admission import Append, Outcome, Written, admit
from apps.topics.keeping import eviction
from apps.topics.names import is_topic_name
from apps.topics.vitals import commits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from apps.topics.appending.batch import Record

log = logging.getLogger(__name__)

# A group that takes longer waits for somebody's lock; the other topics then go on beside it.
_STALL_SECONDS = 0.01
_GROUPS_AT_ONCE = 4
# So many records are worth a connection that waits behind those before them: Postgres has read them when its turn comes.
_FOLLOWING_RECORDS = 2_000
# A group that has been under way for longer waits for somebody else; whatever is sent after it would wait as well.
_FOLLOWED_SECONDS = 0.2
_GROUP_RECORDS = 20_000
_GROUP_BYTES = 16 * 1024 * 1024
# What may wait before clients are told to come back later.
_WAITING_BYTES = 64 * 1024 * 1024

# SQLSTATE classes: connection exception, operator intervention (shutdown, crash).
_CONNECTION_LOST = frozenset({"08", "57"})

_committers: WeakKeyDictionary[asyncio.AbstractEventLoop, Committer] = WeakKeyDictionary()


async def write(append: Append) -> Written:
    """Append records and return where they are, once they are as durable as their topic asks.

    Raises what the write is refused for. If the caller is cancelled the write is made all the same.
    """
    loop = asyncio.get_running_loop()
    committer = _committers.get(loop)
    if committer is None:
        committer = _committers[loop] = Committer(loop)
    return await committer.submit(append)


def groups_under_way() -> int:
    """Return how many transactions of this event loop are under way."""
    committer = _committers.get(asyncio.get_running_loop())
    return 0 if committer is None else committer.groups_under_way


class _Group:
    """Appends that go in one transaction."""

    def __init__(self, appends: dict[Append, asyncio.Future[Written]]) -> None:
        self.appends = appends
        self.topics = {append.topic for append in appends}
        # Whether the next group of other topics waits for it; not if it takes longer than a transaction should.
        self.is_moving = False
        self.stalling: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        # Since when nothing of ours is before it.
        self.leads_since = 0.0
        # Its neighbours under way that write to the same topics: Postgres lets the second wait for the first.
        self.ahead: _Group | None = None
        self.behind: _Group | None = None


class Committer:
    """The appends of one event loop on their way into the log.

    One group is under way at a time; the next goes when it ends, or, if it stalls, beside it with what is of other
    topics. When much waits for the same topics, one more is sent behind it: the topics' locks keep their order.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Append, asyncio.Future[Written]] = {}
        self._waiting_bytes = 0
        self._groups: set[_Group] = set()
        # Groups that will end soon, as far as anybody knows; and the topics of all that are under way.
        self._moving = 0
        self._busy: set[str] = set()
        # The one that may be followed, and how many records wait that would follow it.
        self._leader: _Group | None = None
        self._following_records = 0
        self._scheduled = False

    def submit(self, append: Append) -> asyncio.Future[Written]:
        """Take an append into the next group."""
        if self._waiting and self._waiting_bytes + append.size > _WAITING_BYTES:
            commits.here.submit_full += 1
            raise Throttled(
                "more is being written than the disk takes",
                limit="max_waiting_bytes",
                max=_WAITING_BYTES,
            )
        future: asyncio.Future[Written] = self._loop.create_future()
        self._waiting[append] = future
        self._waiting_bytes += append.size
        commits.here.waiting(1)
        if append.topic not in self._busy:
            self._start_soon()
        elif self._leader is not None and append.topic in self._leader.topics:
            self._following_records += len(append.records)
            self._start_soon()
        return future

    @property
    def groups_under_way(self) -> int:
        return len(self._groups)

    def _start_soon(self) -> None:
        # A group that is moving starts the next when it ends.
        if not self._scheduled and (not self._moving or self._may_follow()):
            # Not at once: whatever else this turn of the loop brings comes along.
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _may_follow(self) -> bool:
        return (
            self._leader is not None
            and self._following_records >= _FOLLOWING_RECORDS
            and self._loop.time() - self._leader.leads_since < _FOLLOWED_SECONDS
        )

    def _start(self) -> None:
        self._scheduled = False
        if self._may_follow():
            self._follow()
        if self._moving or len(self._groups) >= _GROUPS_AT_ONCE:
            return
        appends = self._next_appends(lambda topic: topic not in self._busy)
        if not appends:
            return
        group = self._send(appends)
        group.is_moving = True
        self._moving += 1
        group.stalling = self._loop.call_later(_STALL_SECONDS, self._stall, group)
        self._lead(group)

    def _follow(self) -> None:
        """Send one more group to the topics of the leader; what is of others shall not wait for it."""
        leader = self._leader
        if leader is None or len(self._groups) >= _GROUPS_AT_ONCE:
            return
        self._leader = None
        leader.behind = self._send(self._next_appends(leader.topics.__contains__))
        leader.behind.ahead = leader

    def _lead(self, group: _Group) -> None:
        """Note that nothing of ours is under way before a group any more."""
        self._busy |= group.topics
        if self._leader is None:
            self._leader = group
            group.leads_since = self._loop.time()
            self._following_records = sum(
                [len(append.records) for append in self._waiting if append.topic in group.topics]
            )

    def _send(self, appends: dict[Append, asyncio.Future[Written]]) -> _Group:
        for append in appends:
            del self._waiting[append]
            self._waiting_bytes -= append.size
        commits.here.waiting(-len(appends))
        group = _Group(appends)
        self._groups.add(group)
        group.task = self._loop.create_task(self._commit(group))
        return group

    def _stall(self, group: _Group) -> None:
        group.is_moving = False
        self._moving -= 1
        self._start_soon()

    def _end(self, group: _Group) -> None:
        """Let the next group go; Postgres waits for it while clients hear of this one."""
        self._groups.discard(group)
        if group.stalling is not None:
            group.stalling.cancel()
        self._moving -= group.is_moving
        if group.ahead is not None:
            group.ahead.behind = None  # it has overtaken
        else:
            self._busy -= group.topics
            if self._leader is group:
                self._leader = None
            if group.behind is not None:
                group.behind.ahead = None
                self._lead(group.behind)
        self._start()

    def _next_appends(self, is_of: Callable[[str], bool]) -> dict[Append, asyncio.Future[Written]]:
        group: dict[Append, asyncio.Future[Written]] = {}
        records = size = 0
        for append, future in self._waiting.items():
            # It would only wait behind another group, and all of this one with it.
            if not is_of(append.topic):
                continue
            records += len(append.records)
            size += append.size
            if group and (records > _GROUP_RECORDS or size > _GROUP_BYTES):
                break
            group[append] = future
        return group

    async def _commit(self, group: _Group) -> None:
        outcomes: Mapping[Append, Outcome | psycopg.Error] = {}
        error: BaseException = RuntimeError("an append was lost on its way")
        try:
            outcomes = await _write_all(list(group.appends))
        except Exception as exc:
            log.exception("a group of %d appends failed", len(group.appends))
            error = exc
        finally:
            self._end(group)
        try:
            # First, so that Postgres reads for those who wait for news while the writers are answered.
            _tell(outcomes)
        finally:
            _answer(group, outcomes, error)


def _answer(
    group: _Group, outcomes: Mapping[Append, Outcome | psycopg.Error], error: BaseException
) -> None:
    for append, future in group.appends.items():
        if future.done():
            continue
        outcome = outcomes.get(append, error)
        if isinstance(outcome, Written):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)


def _tell(outcomes: Mapping[Append, object]) -> None:
    """Wake who waits for the topics that have grown."""
    grown = {
        append.topic: outcome.has_listeners
        for append, outcome in outcomes.items()
        if isinstance(outcome, Written) and not outcome.deduped
    }
    if grown:
        listeners.tell(grown)


async def _write_all(appends: list[Append]) -> dict[Append, Outcome | psycopg.Error]:
    """Write appends by the short way where possible, and judge the rest."""
    limited = settings.GYOZA_MAX_TOTAL_BYTES > 0
    outcomes: dict[Append, Outcome | psycopg.Error] = {}
    plain = [a for a in appends if a.key is None and not limited and is_topic_name(a.topic)]
    if plain:
        outcomes.update(await _each_on_its_own(_write_plain, plain))
    await _admit_all([append for append in appends if append not in outcomes], outcomes)
    if limited:
        # §8.2: retention gives bytes back, also of topics that nobody has used since.
        refused = [append for append in appends if _lacks_bytes(outcomes[append])]
        if refused and await eviction.evict_all_due_async():
            await _admit_all(refused, outcomes)
    return outcomes


async def _admit_all(
    appends: list[Append], outcomes: dict[Append, Outcome | psycopg.Error]
) -> None:
    left = appends
    while left:
        found = await _each_on_its_own(admit, left)
        outcomes.update(found)
        left = [append for append in left if append not in found]


def _lacks_bytes(outcome: Outcome | psycopg.Error) -> bool:
    return isinstance(outcome, Throttled) and outcome.detail.get("limit") == "max_total_bytes"


async def _write_plain(appends: list[Append]) -> dict[Append, Outcome]:
    """Append to the topics that are there and have no cap: one statement, its own transaction."""
    batches: dict[str, list[Record]] = {}
    for append in appends:
        batches.setdefault(append.topic, []).extend(append.records)
    params = batch.append_params(batches, now=eviction.now_ms(), roomy_only=True, relaxed=True)
    started = time.perf_counter()
    rows = (await sql.run_async("topics/append_records", **params)).rows
    elapsed = (time.perf_counter() - started) * 1000
    placed = batch.placed(rows)
    justwritten.offer(placed.values(), batches)
    following = {name: topic.first_seq for name, topic in placed.items()}
    outcomes: dict[Append, Outcome] = {}
    for append in appends:
        topic = placed.get(append.topic)
        if topic is None:
            continue
        first = following[append.topic]
        following[append.topic] += len(append.records)
        outcomes[append] = Written(
            first_seq=first,
            last_seq=first + len(append.records) - 1,
            append_ms=elapsed,
            # The flush is part of the statement's time; a class that doesn't wait for it says exactly 0.
            fsync_ms=elapsed if topic.durable else 0.0,
            has_listeners=topic.has_listeners,
        )
    if outcomes:
        commits.here.committed(
            appends=len(outcomes),
            size=sum(append.size for append in outcomes),
            waited_ms=elapsed if batch.waited_for_disk(rows) else None,
        )
    return outcomes


async def _each_on_its_own(
    write: Callable[[list[Append]], Awaitable[dict[Append, Outcome]]], appends: list[Append]
) -> dict[Append, Outcome | psycopg.Error]:
    """Write appends together; if Postgres refuses, one by one, so that none fails for its neighbour's sake."""
    outcomes: dict[Append, Outcome | psycopg.Error] = {}
    try:
        outcomes.update(await write(appends))
    except psycopg.Error as exc:
        if exc.sqlstate is None or exc.sqlstate[:2] in _CONNECTION_LOST:
            # Perhaps the commit was not lost with it: writing again could write twice.
            return dict.fromkeys(appends, exc)
        if len(appends) == 1:
            log.exception("Postgres refused an append")
            return {appends[0]: exc}
        for append in appends:
            outcomes.update(await _each_on_its_own(write, [append]))
    except GyozaError as exc:
        outcomes.update(dict.fromkeys(appends, exc))
    return outcomes
