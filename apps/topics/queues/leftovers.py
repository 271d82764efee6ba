"""What stays of jobs when their records or their topic go by another way than an ack."""

from __future__ import annotations

from apps.core import sql
from apps.topics.keeping import eviction
from apps.topics.names import can_be_looked_up
from apps.topics.states import TopicKind


def lock(name: str) -> None:
    """Lock a queue until the transaction ends, before its topic is locked; nothing if it is a log, or not there.

    The row is made if need be: else a claim could make and lock it meanwhile, and then wait for the topic.
    """
    if not can_be_looked_up(name) or _lock(name):
        return
    opened = sql.run_bound("topics/queues/open_queue", name=name).rows
    if opened and opened[0]["kind"] == TopicKind.QUEUE:
        _lock(name)


def _lock(name: str) -> bool:
    return bool(sql.run_bound("topics/queues/lock_queue", name=name, now=eviction.now_ms()).rows)


def let_go(topic_id: int) -> None:
    """Let go of jobs whose records were just deleted; holders keep leases of nothing until they end (§18.8)."""
    sql.run_bound("topics/queues/let_go_of_deleted", topic_id=topic_id)


def forget_deleted() -> None:
    """Delete what is left of the queues of deleted topics."""
    sql.run("topics/queues/forget_queues")
