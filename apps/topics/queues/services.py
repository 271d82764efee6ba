"""What operators do to a queue. Each change leaves an audit row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction

from apps.access import services as access
from apps.core import pgarray, sql
from apps.core.sse import wakeups
from apps.topics import names
from apps.topics.appending import batch, listeners
from apps.topics.appending.batch import Record
from apps.topics.appending.room import Room
from apps.topics.errors import TopicFull, TopicNotFound
from apps.topics.keeping import eviction, settling
from apps.topics.models import Queue
from apps.topics.queues import leftovers, queries
from apps.topics.queues.desk import channel
from apps.topics.queues.queries import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.access.auth import Caller
    from apps.topics.queues.queries import DeadLetter

# What one redrive moves at most: it holds the locks of both topics.
MAX_REDRIVE = 1_000


@dataclass(frozen=True, slots=True)
class Redriven:
    """Jobs that are fresh again: the dead letters' seqs and those they have now; and which of the asked for stayed."""

    dead_letter: str
    letters: list[int]
    seqs: list[int]
    skipped: list[int]
    caught_up: bool


def pause_queue(*, name: str, caller: Caller | str) -> None:
    """Have claims get nothing until the queue is resumed; leases go on. Raises TopicNotFound or NotAQueue."""
    _set_paused(name, caller, is_paused=True)


def resume_queue(*, name: str, caller: Caller | str) -> None:
    """Have claims get jobs again. Raises TopicNotFound or NotAQueue."""
    _set_paused(name, caller, is_paused=False)


def release_leases(*, name: str, node: str | None = None, caller: Caller | str) -> int:
    """Give back what is leased, or leased by one node, ahead of fresh jobs; return how many jobs that was.

    Their holders can't ack them any more. Raises TopicNotFound or NotAQueue.
    """
    topic = queries.get_queue(name)
    with transaction.atomic():
        leftovers.lock(name)
        escaped = None if node is None else batch.escape(node).decode()
        rows = sql.run_bound("topics/queues/release_leases", topic_id=topic.pk, node=escaped).rows
        released = int(rows[0]["released"]) if rows else 0
        if released:
            access.audit(
                caller=caller,
                action="queue.release",
                target=f"topic:{name}",
                node=escaped,
                released=released,
            )
            wakeups.announce_on_commit(channel(name))
    return released


def redrive_dead_letters(
    *,
    name: str,
    seqs: Sequence[int] | None = None,
    most: int = MAX_REDRIVE,
    caller: Caller | str,
) -> Redriven:
    """Move dead letters of a queue back into it, as fresh jobs without their stamps: those of `seqs`, or the oldest.

    In one transaction. What doesn't fit a queue that rejects stays; raises TopicFull if nothing fits, and as
    `queries.read_dead_letters`.
    """
    dead = queries.dead_letter_topic(name)
    # Before the locks, because routers may have to catch up.
    settling.settle(name)
    settling.settle(dead)
    with transaction.atomic():
        # If the dead letters are a queue themselves: its lock comes before the topics'.
        leftovers.lock(dead)
        both = pgarray.texts(sorted({name.encode(), dead.encode()}))
        locked = sql.run_bound("topics/lock_topics", names=both, now=eviction.now_ms()).rows
        topics = {row["name"]: row for row in locked}
        if name not in topics:
            raise TopicNotFound.of(name)
        # A topic that comes into being at this very moment is not locked; the next time finds what is in it.
        page = DeadLetters(dead, [], 0, caught_up=True)
        if dead in topics:
            page = queries.find_dead_letters(name, dead, limit=min(most, MAX_REDRIVE), seqs=seqs)
        letters = _that_fit(topics[name], page.letters)
        moved = [letter.seq for letter in letters]
        new_seqs = _append(name, letters) if letters else []
        if letters:
            _remove(topics[dead]["id"], moved)
            access.audit(
                caller=caller,
                action="queue.redrive",
                target=f"topic:{name}",
                dead_letter=dead,
                count=len(moved),
                first_seq=new_seqs[0],
            )
    return Redriven(
        dead_letter=page.topic,
        letters=moved,
        seqs=new_seqs,
        skipped=[seq for seq in seqs or () if seq not in set(moved)],
        caught_up=page.caught_up and len(letters) == len(page.letters),
    )


def _set_paused(name: str, caller: Caller | str, *, is_paused: bool) -> None:
    topic = queries.get_queue(name)
    with transaction.atomic():
        sql.run_bound("topics/queues/open_queue", name=name)
        standing = Queue.objects.filter(topic=topic).exclude(is_paused=is_paused)
        # Guarded: only what changes something is told.
        if standing.update(is_paused=is_paused):
            action = "queue.pause" if is_paused else "queue.resume"
            access.audit(caller=caller, action=action, target=f"topic:{name}")
            wakeups.announce_on_commit(channel(name))


def _that_fit(topic: dict[str, Any], letters: list[DeadLetter]) -> list[DeadLetter]:
    room = Room.of(topic)
    fitting = []
    for letter in letters:
        if room.can_never_take(1, letter.size) or room.is_full_for(1, letter.size):
            break
        room.take(1, letter.size)
        fitting.append(letter)
    if letters and not fitting:
        raise TopicFull.of(topic)
    return fitting


def _append(name: str, letters: list[DeadLetter]) -> list[int]:
    records = [
        Record(
            data=letter.data.encode(),
            meta=letter.meta,
            size=letter.size,
            tag=None if letter.tag is None else letter.tag.encode(),
            node=None if letter.node is None else letter.node.encode(),
        )
        for letter in letters
    ]
    params = batch.append_params(
        {name: records}, now=eviction.now_ms(), roomy_only=False, relaxed=False
    )
    placed = batch.placed(sql.run_bound("topics/append_records", **params).rows)[name]
    if placed.has_cap:
        eviction.evict(placed.topic_id, chunk=2 * len(records))
    wakeups.announce_on_commit(names.channel(name))
    if placed.has_listeners:
        listeners.nudge_on_commit()
    return list(range(placed.first_seq, placed.first_seq + len(records)))


def _remove(topic_id: int, seqs: list[int]) -> None:
    gone = sql.run_bound("topics/delete_seqs", topic_id=topic_id, seqs=pgarray.bigints(seqs))
    sql.run_bound("topics/take_away", topic_id=topic_id, first=0, **gone.rows[0])
    leftovers.let_go(topic_id)
