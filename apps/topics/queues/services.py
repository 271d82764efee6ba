"""What operators do to a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from apps.access import services as access
from apps.core import sql
from apps.core.sse import wakeups
from apps.topics.errors import NotAQueue, TopicNotFound
from apps.topics.models import Queue, Topic
from apps.topics.names import can_be_looked_up
from apps.topics.queues.desk import channel
from apps.topics.states import TopicKind

if TYPE_CHECKING:
    from apps.access.auth import Caller


def pause_queue(*, name: str, caller: Caller | str) -> None:
    """Have claims get nothing until the queue is resumed; leases go on. Raises TopicNotFound or NotAQueue."""
    _set_paused(name, caller, is_paused=True)


def resume_queue(*, name: str, caller: Caller | str) -> None:
    """Have claims get jobs again. Raises TopicNotFound or NotAQueue."""
    _set_paused(name, caller, is_paused=False)


def _set_paused(name: str, caller: Caller | str, *, is_paused: bool) -> None:
    with transaction.atomic():
        topic = _open(name)
        # Guarded: only what changes something is told.
        if (
            Queue.objects.filter(topic=topic)
            .exclude(is_paused=is_paused)
            .update(is_paused=is_paused)
        ):
            action = "queue.pause" if is_paused else "queue.resume"
            access.audit(caller=caller, action=action, target=f"topic:{name}")
            wakeups.announce_on_commit(channel(name))


def _open(name: str) -> Topic:
    """Return a queue's topic, and make sure that it has its row."""
    topic = Topic.objects.filter(name=name).first() if can_be_looked_up(name) else None
    if topic is None:
        raise TopicNotFound.of(name)
    if topic.kind != TopicKind.QUEUE:
        raise NotAQueue.of(name)
    sql.run_bound("topics/queues/open_queue", name=name)
    return topic
