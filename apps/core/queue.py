"""Nudges: Celery messages that say "there is work", never which. The truth is a row, and a sweep finds it."""

from __future__ import annotations

import logging
from functools import partial

from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from apps.core import redis

JSONScalar = str | int | float | bool | None

log = logging.getLogger(__name__)

# A nudge that nobody has begun to answer covers those that follow. The mark ends by itself, so that a lost message
# hides later ones for no longer than this.
NUDGE_COVERS_MS = 1000


def enqueue_on_commit(task: str, /, **kwargs: JSONScalar) -> None:
    """Send a Celery task by name once the surrounding transaction has committed.

    The message is only a nudge: the row that asks for the work is already there, and a sweep finds rows whose
    nudge was lost. So a broker failure is logged here and not raised.
    """
    transaction.on_commit(partial(_send, task, kwargs), robust=True)


def _send(task: str, kwargs: dict[str, JSONScalar]) -> None:
    try:
        current_app.send_task(task, kwargs=kwargs, ignore_result=True)
    except (KombuError, OperationalError, OSError) as exc:
        log.warning("nudge %s was not sent, a sweep will find its row: %s", task, exc)


def nudge_on_commit(task: str, /) -> None:
    """Send a task without arguments once the surrounding transaction has committed, unless one is still unanswered.

    One message serves a whole burst: what it announces is found in Postgres. Who answers calls `answer_nudge` first.
    """
    transaction.on_commit(partial(_nudge, task), robust=True)


def answer_nudge(task: str, /) -> None:
    """Let the next nudge through. To be called before looking for work, or a row could slip between."""
    try:
        redis.client().delete(_mark(task))
    except RedisError as exc:
        log.warning("the mark of %s was not removed, it ends by itself: %s", task, exc)


def _nudge(task: str) -> None:
    try:
        is_first = redis.client().set(_mark(task), 1, nx=True, px=NUDGE_COVERS_MS)
    except RedisError as exc:
        log.warning("nudge %s was not sent, a sweep will find its row: %s", task, exc)
        return
    if is_first:
        _send(task, {})


def _mark(task: str) -> str:
    return f"gyoza:nudge:{task}"
