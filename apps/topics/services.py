"""Writes to the log, and to what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from django.db import transaction

from apps.access import services as access
from apps.core import pgarray, sql
from apps.core.errors import Invalid, Throttled
from apps.core.sse import wakeups
from apps.core.steps import carry_out
from apps.topics import queries
from apps.topics.appending import batch, listeners, quota, room
from apps.topics.appending.events import NewEvent as NewEvent
from apps.topics.appending.events import batches_of
from apps.topics.appending.events import check_event as check_event
from apps.topics.config import TopicConfig
from apps.topics.errors import TopicExists, TopicExistsIncompatible, TopicNotEmpty, TopicNotFound
from apps.topics.keeping import eviction, removal
from apps.topics.models import DeletedTopic, Topic
from apps.topics.names import can_be_looked_up, channel, is_topic_name, require_unreserved
from apps.topics.routers import topology

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from apps.access.auth import Caller
    from apps.core.asyncdb import Connection
    from apps.core.errors import GyozaError
    from apps.topics.appending.batch import Placed, Record
    from apps.topics.keeping.removal import Removed
    from apps.topics.predicates import TagPredicate

# Topics this process has seen. Only saves the look-up: a name here may have been deleted meanwhile.
_seen: set[str] = set()
_SEEN_MAX = 100_000
# Plans of a deletion that may be overtaken before one is made under the lock.
_FREE_PLANS = 2


@dataclass(frozen=True, slots=True)
class Appended:
    """Topics that a transaction of the event loop has appended to, and whether they have listeners."""

    grown: dict[str, bool]

    def tell(self) -> None:
        """Wake whoever waits for them; once it is committed."""
        listeners.tell(self.grown)


class Refused(Exception):
    """A topic that rejects has no room for what was to be appended; nothing of it was."""

    def __init__(self, topic: str, error: GyozaError) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.topic = topic
        self.error = error


@dataclass(frozen=True, slots=True)
class Configured:
    """What a topic is configured as, and whether it was made for it."""

    created: bool
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deleted:
    """Whether there was a topic to delete, and which routers went with it."""

    deleted: bool
    routers_removed: list[str]


def configure_topic(
    *, topic: str, wanted: TopicConfig, caller: Caller | str, replace: bool = True
) -> Configured:
    """Create a topic, or replace its whole config and evict at once what the new one doesn't keep; durable on return.

    Raises Invalid, TopicExists if it is not to replace one, TopicExistsIncompatible for another kind, Throttled when
    there are too many topics. Of several calls that create a topic at once, exactly one is told so.
    """
    if not is_topic_name(topic):
        raise Invalid(f'"{topic}" is not a valid topic name')
    wanted.check_for(topic)
    # How long they are kept is for operators to say.
    if not isinstance(caller, str) and not caller.may("admin"):
        require_unreserved(topic)
    columns = wanted.columns()
    with transaction.atomic():
        existing = _lock_topic(topic)
        # Created by somebody else at this moment: it is there now, unless it was deleted again.
        while existing is None and not create_topic(topic, columns):
            existing = _lock_topic(topic)
        if existing is None:
            access.audit(caller=caller, action="topic.create", target=f"topic:{topic}", **columns)
        elif replace:
            _reconfigure(existing, columns, caller)
        else:
            raise TopicExists(f"there is a topic {topic}", topic=topic)
    if existing is not None:
        eviction.evict_due(topic)
    return Configured(created=existing is None, columns=columns)


def delete_topic(*, topic: str, if_empty: bool = False, caller: Caller | str) -> Deleted:
    """Delete a topic with its routers; its records are gone for readers at once. Durable on return.

    Raises TopicNotEmpty if it was to be empty and isn't.
    """
    if not can_be_looked_up(topic):
        return Deleted(deleted=False, routers_removed=[])
    require_unreserved(topic)
    if if_empty:
        eviction.evict_due(topic)
    with transaction.atomic():
        # Before the topic's lock: a router that is forwarding waits for that, and we for the router.
        routers = topology.remove_routers_of(topic)
        existing = _lock_topic(topic)
        if existing is None:
            return Deleted(deleted=False, routers_removed=[])
        if if_empty:
            eviction.evict(existing.pk)
            existing.refresh_from_db(fields=["count"])
            if existing.count:
                raise TopicNotEmpty(f"{topic} has records", topic=topic, count=existing.count)
        DeletedTopic.objects.create(id=existing.pk, name=topic, head=existing.head)
        access.audit(
            caller=caller,
            action="topic.delete",
            target=f"topic:{topic}",
            head_seq=existing.head,
            count=existing.count,
            routers_removed=routers,
        )
        existing.gaps.all().delete()
        existing.delete()
        wakeups.announce_on_commit(channel(topic))
    return Deleted(deleted=True, routers_removed=routers)


def delete_records(
    *,
    topic: str,
    before_seq: int | None = None,
    match: TagPredicate | None = None,
    caller: Caller | str,
) -> Removed:
    """Delete the records before a seq, those with a matching tag, or those that are both; of what is there now.

    Raises Invalid without either, TopicNotFound.
    """
    if before_seq is None and match is None:
        raise Invalid("name `before_seq`, `match`, or both")
    require_unreserved(topic)
    before = None if before_seq is None else min(before_seq, queries.MAX_SEQ)
    if can_be_looked_up(topic):
        eviction.evict_due(topic)
    for _ in range(_FREE_PLANS):
        plan = removal.plan(topic, before=before, match=match)
        with transaction.atomic():
            removed = _carry_out(topic, plan, before_seq, match, caller)
        if removed is not None:
            return removed
    with transaction.atomic():
        _lock_for_removal(topic)
        plan = removal.plan(topic, before=before, match=match)
        removed = _carry_out(topic, plan, before_seq, match, caller)
    assert removed is not None  # noqa: S101 - made under the lock, it holds
    return removed


def append_events(
    records: Sequence[NewEvent], *, ensure: bool = True, refusable: Collection[str] = ()
) -> list[int]:
    """Append records to their topics, in this order within each, inside the caller's transaction; return their seqs.

    Call it last: from here to commit the topics are locked, and every other writer to them waits. Missing topics
    are created (`ensure`), else their records are dropped (seq 0). A full topic that rejects takes these all the same: what
    has happened can't be refused. What can is written to topics named in `refusable`; raises Refused for the first of
    them that has no room, or for which the log has none. Readers are woken after commit.
    """
    batches = batches_of(records)
    if not batches:
        return []
    if ensure:
        ensure_topics(batches)
    if refusable:
        _require_room(batches, refusable)
    placed = _append(batches)
    lost = batches.keys() - placed.keys()
    if lost and ensure:
        # Deleted since this process saw them, or Postgres has come back from a crash. The second round may take its
        # locks out of order; Postgres would then end one of the two.
        _seen.difference_update(lost)
        eviction.skip_lost_seqs()
        ensure_topics(lost)
        placed |= _append({name: batches[name] for name in lost})
    for topic in placed.values():
        if topic.has_cap:
            eviction.evict(topic.topic_id, chunk=2 * len(batches[topic.name]))
    wakeups.announce_on_commit(*(channel(name) for name in placed))
    if any(topic.has_listeners for topic in placed.values()):
        listeners.nudge_on_commit()
    following = {name: topic.first_seq for name, topic in placed.items()}
    seqs = []
    for event in records:
        seqs.append(following.get(event.topic, 0))
        if event.topic in following:
            following[event.topic] += 1
    return seqs


async def append_events_on(conn: Connection, records: Sequence[NewEvent]) -> Appended | None:
    """Append records as the last step of a transaction of the event loop; None if `append_events` has to do it.

    It has to if a topic is missing or has a cap: then nothing may be committed, for some may have been appended.
    """
    batches = batches_of(records)
    params = batch.append_params(batches, now=eviction.now_ms(), roomy_only=True, relaxed=False)
    rows = (await sql.run_async("topics/append_records", on=conn, **params)).rows
    placed = batch.placed(rows)
    if placed.keys() != batches.keys():
        return None
    return Appended({name: topic.has_listeners for name, topic in placed.items()})


def register_listener(
    *, wake: Callable[[Collection[str]], None], nudge_on_commit: Callable[[], None]
) -> None:
    """Have somebody called from now on when followed topics grow; at start (see `topics.appending.listeners`)."""
    listeners.register(listeners.Listener(wake=wake, nudge_on_commit=nudge_on_commit))


def follow_topic(*, topic: str, is_followed: Callable[[], bool]) -> queries.Head | None:
    """Lock a topic until the transaction ends and note whether somebody outside of the log follows it.

    Appends to it then call the listeners. `is_followed` is asked under the lock, so of several who begin and stop to
    follow at once the last one is right. Returns where the topic stands; None if there is none.
    """
    found = _lock_topic(topic)
    if found is None:
        return None
    sql.run_bound("topics/mark_followed", topic_id=found.pk, is_followed=is_followed())
    return queries.Head(found.pk, found.head, found.largest)


def ensure_topics(names: Collection[str]) -> list[str]:
    """Create those topics that are missing, with default config, and return their names."""
    unseen = sorted(set(names) - _seen)
    if not unseen:
        return []
    missing = missing_topics(unseen)
    # Not those created here: nobody else sees them before this transaction has committed.
    remember(name for name in unseen if name not in missing)
    if not missing:
        return []
    created = sql.run_bound("topics/create_topics", names=_texts(missing)).rows
    return [row["name"] for row in created]


def ensure_topic(name: str, *, ttl_ms: int) -> None:
    """Create a topic of ours unless it exists, keeping what is written for so long; in the caller's transaction."""
    if name not in _seen and missing_topics([name]):
        create_topic(name, TopicConfig(ttl_ms=ttl_ms).columns())


def missing_topics(names: Collection[str]) -> list[str]:
    """Return which of these names have no topic, sorted."""
    return sorted(
        row["name"] for row in sql.run_bound("topics/missing_topics", names=_texts(names)).rows
    )


def create_topic(name: str, columns: dict[str, Any]) -> bool:
    """Create a topic unless it exists, and say whether this call did; in the caller's transaction.

    Raises Throttled if there are too many.
    """
    most = settings.GYOZA_MAX_TOPICS
    if most:
        # Held until commit, so that two who create can't both take the last place.
        sql.run_bound("topics/lock_quota")
        if sql.run_bound("topics/count_topics").rows[0]["topics"] >= most:
            # Unless it is there by now: changing a topic is never refused.
            if Topic.objects.filter(name=name).exists():
                return False
            raise Throttled("there are too many topics", limit="max_topics", max=most)
    return bool(sql.run_bound("topics/create_topic", name=name, **columns).rows)


def remember(names: Iterable[str]) -> None:
    """Note topics that exist, so that appends needn't look first."""
    if len(_seen) > _SEEN_MAX:
        _seen.clear()
    _seen.update(names)


def forget() -> None:
    """Forget which topics exist, as a new process would."""
    _seen.clear()


def _lock_topic(name: str) -> Topic | None:
    if not can_be_looked_up(name):
        return None
    eviction.skip_lost_seqs()
    return Topic.objects.select_for_update(no_key=True).filter(name=name).first()


def _reconfigure(existing: Topic, columns: dict[str, Any], caller: Caller | str) -> None:
    if existing.kind != columns["kind"]:
        raise TopicExistsIncompatible(
            f"{existing.name} is a {existing.kind}",
            topic=existing.name,
            existing_type=existing.kind,
            requested_type=columns["kind"],
        )
    changed = {name: value for name, value in columns.items() if getattr(existing, name) != value}
    if changed:
        Topic.objects.filter(pk=existing.pk).update(**changed)
        access.audit(
            caller=caller, action="topic.configure", target=f"topic:{existing.name}", **changed
        )


def _lock_for_removal(name: str) -> removal.Marks:
    marks = removal.lock(name)
    if marks is None:
        raise TopicNotFound.of(name)
    return marks


def _carry_out(
    name: str,
    plan: removal.Plan | None,
    before_seq: int | None,
    match: TagPredicate | None,
    caller: Caller | str,
) -> Removed | None:
    if plan is None:
        raise TopicNotFound.of(name)
    removed = removal.carry_out(plan, _lock_for_removal(name))
    if removed is not None and removed.deleted:
        access.audit(
            caller=caller,
            action="topic.delete_records",
            target=f"topic:{name}",
            deleted=removed.deleted,
            before_seq=before_seq,
            # As JSON text: jsonb, which holds the trail, knows no U+0000.
            match=None if match is None else msgspec.json.encode(match.wire()).decode(),
        )
    return removed


def _require_room(batches: dict[str, list[Record]], refusable: Collection[str]) -> None:
    left = carry_out(quota.take_turn())
    # All of them are locked, in the order in which the append locks them.
    locked = eviction.lock_settled_now(batches)
    for name in sorted(locked.keys() & set(refusable)):
        size = sum(record.size for record in batches[name])
        error = room.refusal(locked[name], len(batches[name]), size)
        error = error or room.refusal_of_all(size, left=left, most=settings.GYOZA_MAX_TOTAL_BYTES)
        if error is not None:
            raise Refused(name, error)
        left = None if left is None else left - size


def _append(batches: dict[str, list[Record]]) -> dict[str, Placed]:
    params = batch.append_params(batches, now=eviction.now_ms(), roomy_only=False, relaxed=False)
    return batch.placed(sql.run_bound("topics/append_records", **params).rows)


def _texts(names: Collection[str]) -> pgarray.TextArray:
    return pgarray.texts([name.encode() for name in names])
