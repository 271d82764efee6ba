"""Hearing nudges at once: a thread of a worker process that listens to what `core.queue` publishes.

Celery brings the same word through a consumer, a pool and a task, which takes milliseconds; this takes a tenth of one.
Both are hints, and behind both stands a sweep.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from apps.core import queue, redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.client import PubSub

log = logging.getLogger(__name__)

# How long Redis is left alone after a failure. Celery's messages and the sweeps go on meanwhile.
PAUSE_SECONDS = 0.5
# After so long without a word the connection is tried: one that went silently would never be noticed.
SILENCE_SECONDS = 15.0


class Ear:
    """Calls `answers[task]` whenever that task is nudged, here or elsewhere, and when it begins to hear.

    The calls come from the ear's own thread, or from the one that nudges here, so they must be short.
    """

    def __init__(self, answers: Mapping[str, Callable[[], None]]) -> None:
        self._by_task = dict(answers)
        self._answers = {queue.nudge_channel(task): answer for task, answer in answers.items()}
        self._closed = threading.Event()
        self._hearing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="gyoza-nudges", daemon=True)

    @property
    def hears(self) -> bool:
        """Whether a nudge sent now would be heard, as far as it knows."""
        return self._hearing.is_set()

    def start(self) -> None:
        """Begin to listen."""
        for task, answer in self._by_task.items():
            queue.call_here(task, answer)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; no answer is called after this."""
        if self._thread.ident is not None and not self._closed.is_set():
            for task, answer in self._by_task.items():
                queue.call_no_more(task, answer)
        self._closed.set()
        try:
            # It may be waiting for a word.
            redis.client().publish(next(iter(self._answers)), "")
        except RedisError as exc:
            log.debug("Redis is away, the listener ends by itself: %s", exc)
        if self._thread.ident is not None:
            self._thread.join(SILENCE_SECONDS)
        self._hearing.clear()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with redis.client().pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    pubsub.subscribe(*self._answers)
                    self._hear(pubsub)
            except (RedisError, OSError) as exc:
                if self._hearing.is_set():
                    log.warning("nudges come by Celery only, Redis is away: %s", exc)
                self._hearing.clear()
                self._closed.wait(PAUSE_SECONDS)

    def _hear(self, pubsub: PubSub) -> None:
        while not self._closed.is_set():
            message = pubsub.get_message(timeout=SILENCE_SECONDS)
            if message is None:
                pubsub.ping()
            elif message["type"] in {"subscribe", "message"} and not self._closed.is_set():
                # Once subscribed, too: what was said before is unknown. Its own word it has answered already.
                if message["data"] != queue.speaker().encode():
                    self._answers[message["channel"].decode()]()
                self._hearing.set()
