"""Nudges: Celery messages that say "there is work", never which. The truth is a row, and a sweep finds it."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from uuid import uuid4

from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from apps.core import redis

if TYPE_CHECKING:
    from collections.abc import Callable

JSONScalar = str | int | float | bool | None

log = logging.getLogger(__name__)

# A nudge that nobody has begun to answer covers those that follow. The mark ends by itself, so that a lost message
# hides later ones for no longer than this.
NUDGE_COVERS_MS = 1000
# How much later a message follows a word that was heard. It costs a worker more than a small run does, so it comes when
# the run is under way, and at most ten times a second from one process. A process that has called its own agent or engine
# knows that the work is being looked at: for the others, who may be deaf, once a second is enough.
SOON_SECONDS = 0.1
LATER_SECONDS = 1.0

# Who in this very process wants to know at once, by task.
_answers_here: dict[str, list[Callable[[], None]]] = {}
_ours = uuid4().hex


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
    """Say that there is work for a task without arguments, once the surrounding transaction has committed.

    Whoever listens in this process is called, the word is published to those who listen elsewhere (`core.nudges`), and
    sent as a Celery message: at once if nobody listens, else a moment later, for whoever may be deaf just then. One message
    serves a whole burst: what it announces is found in Postgres. A task that is not listened for calls
    `answer_nudge` first.
    """
    transaction.on_commit(partial(nudge, task), robust=True)


def answer_nudge(task: str, /) -> None:
    """Let the next nudge through. To be called before looking for work, or a row could slip between."""
    try:
        redis.client().delete(_mark(task))
    except RedisError as exc:
        log.warning("the mark of %s was not removed, it ends by itself: %s", task, exc)


def nudge_channel(task: str, /) -> str:
    """Return the Redis channel on which nudges of a task are published."""
    return f"gyoza:nudges:{task}"


def speaker() -> str:
    """Return what this process publishes as a nudge: it knows its own word by it."""
    # With the id: what was forked from here is another one.
    return f"{_ours}-{os.getpid()}"


def call_here(task: str, answer: Callable[[], None]) -> None:
    """Call somebody in this process whenever it nudges a task; from the thread that does, so it must be short."""
    _answers_here.setdefault(task, []).append(answer)


def call_no_more(task: str, answer: Callable[[], None]) -> None:
    """Undo `call_here`."""
    _answers_here[task].remove(answer)


def nudge(task: str, /) -> None:
    """Do as `nudge_on_commit` at once; only for what is committed."""
    here = tuple(_answers_here.get(task, ()))
    for answer in here:
        answer()
    try:
        is_heard = redis.client().publish(nudge_channel(task), speaker()) > 0
        is_first = is_heard or redis.client().set(_mark(task), 1, nx=True, px=NUDGE_COVERS_MS)
    except RedisError as exc:
        log.warning("nudge %s was not sent, a sweep will find its row: %s", task, exc)
        return
    if is_heard and here:
        _send_later(task)
    elif is_heard:
        _send_soon(task)
    elif is_first:
        _send(task, {})


def _mark(task: str) -> str:
    return f"gyoza:nudge:{task}"


class _Postman:
    """Sends tasks a while after it was given them, each once, however often it was given it meanwhile."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._outbox: SimpleQueue[str] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._hiring = threading.Lock()

    def take(self, task: str) -> None:
        with self._hiring:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._deliver, name="gyoza-postman", daemon=True
                )
                self._thread.start()
        self._outbox.put(task)

    def _deliver(self) -> None:
        while True:
            tasks = {self._outbox.get()}
            _wait(self._seconds)
            with suppress(Empty):
                while True:
                    tasks.add(self._outbox.get_nowait())
            for task in tasks:
                _send(task, {})


def _wait(seconds: float) -> None:
    time.sleep(seconds)


_soon, _later = _Postman(SOON_SECONDS), _Postman(LATER_SECONDS)


def _send_soon(task: str) -> None:
    _soon.take(task)


def _send_later(task: str) -> None:
    _later.take(task)
