"""A nudge is heard at once by who listens, and its Celery message follows; without a listener it goes at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from apps.core import queue
from apps.core.nudges import Ear

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

pytestmark = pytest.mark.django_db(transaction=True)
TASK = "tests.nudged"


class Listener:
    """An ear, and how often it has called."""

    def __init__(self) -> None:
        self.calls = threading.Semaphore(0)
        self.ear = Ear({TASK: self.calls.release})
        self.ear.start()
        assert self.called(), "it answers as soon as it can hear"

    def called(self, timeout: float = 10) -> bool:
        return self.calls.acquire(timeout=timeout)


@pytest.fixture
def listener(redis: Redis) -> Iterator[Listener]:
    opened = Listener()
    yield opened
    opened.ear.close()


def test_it_is_heard_once_the_transaction_has_committed(listener: Listener, enqueued: Any) -> None:
    with transaction.atomic():
        queue.nudge_on_commit(TASK)
        assert not listener.called(timeout=0)
    assert listener.called()
    assert enqueued == [(TASK, {})]


def test_a_task_nobody_asked_for_is_not_heard(listener: Listener, enqueued: Any) -> None:
    queue.nudge_on_commit("tests.another")
    queue.nudge_on_commit(TASK)
    assert listener.called()
    assert not listener.called(timeout=0)


def test_what_this_process_says_is_heard_once(
    listener: Listener, redis: Redis, enqueued: Any
) -> None:
    queue.nudge_on_commit(TASK)
    assert listener.called(timeout=0), "without a way through Redis"
    redis.publish(queue.nudge_channel(TASK), "another process")
    assert listener.called()
    assert not listener.called(timeout=0)


def test_a_message_follows_what_was_heard_one_for_all(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    done = threading.Event()
    may_send = threading.Event()

    def send(task: str, kwargs: dict[str, Any]) -> None:
        sent.append(task)
        if task == "tests.last":
            done.set()

    monkeypatch.setattr(queue, "_send", send)
    monkeypatch.setattr(queue, "_wait", lambda seconds: may_send.wait(10))
    for _ in range(5):
        queue.nudge_on_commit(TASK)
        assert listener.called()
    assert sent == []
    may_send.set()
    queue._send_later("tests.last")
    assert done.wait(10)
    assert sent.count(TASK) == 1


def test_without_a_listener_the_message_goes_at_once(redis: Redis, enqueued: Any) -> None:
    queue.nudge_on_commit(TASK)
    assert enqueued == [(TASK, {})]


def test_without_a_listener_one_message_serves_all_until_it_is_answered(
    redis: Redis, enqueued: Any
) -> None:
    queue.nudge_on_commit(TASK)
    queue.nudge_on_commit(TASK)
    assert len(enqueued) == 1
    queue.answer_nudge(TASK)
    queue.nudge_on_commit(TASK)
    assert len(enqueued) == 2


def test_it_answers_again_when_it_has_lost_redis_for_a_while(
    listener: Listener, redis: Redis, enqueued: Any
) -> None:
    redis.client_kill_filter(_type="pubsub")
    assert listener.called(), "what was said meanwhile is unknown"
    queue.nudge_on_commit(TASK)
    assert listener.called()


def test_it_is_silent_once_closed(listener: Listener, enqueued: Any) -> None:
    listener.ear.close()
    queue.nudge_on_commit(TASK)
    assert not listener.called(timeout=0)
    assert not listener.ear.hears
