"""Wake-ups: kept from subscribe to wait, after commit only, across processes, and without Redis."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from apps.core.sse import hub, wakeups

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis


async def connected() -> None:
    """Wait until the subscriber of this loop hears Redis."""
    with wakeups.subscribe("x") as news:
        while not hub.current().hears:
            await news.wait(5)


def test_news_between_subscribe_and_wait_is_kept(redis: Redis) -> None:
    async def scene() -> bool:
        await connected()
        with wakeups.subscribe("topic:a", "topic:b") as news:
            wakeups.announce_soon("topic:b")
            heard = await news.wait(30)
        await hub.current().close()
        return heard

    assert asyncio.run(scene())


def test_news_of_another_process_is_heard(redis: Redis) -> None:
    async def scene() -> bool:
        await connected()
        with wakeups.subscribe("topic:a") as news:
            redis.publish(hub.REDIS_CHANNEL, "another process\ntopic:z\ntopic:a")
            heard = await news.wait(30)
        await hub.current().close()
        return heard

    assert asyncio.run(scene())


def test_a_thread_wakes_the_event_loop(redis: Redis) -> None:
    async def scene() -> bool:
        await connected()
        with wakeups.subscribe("topic:a") as news:
            await asyncio.to_thread(wakeups.announce, ["topic:a"])
            heard = await news.wait(30)
        await hub.current().close()
        return heard

    assert asyncio.run(scene())


def test_other_channels_do_not_wake(redis: Redis) -> None:
    async def scene() -> bool:
        await connected()
        with wakeups.subscribe("topic:a") as news:
            wakeups.announce_soon("topic:b")
            heard = await news.wait(0.01)
        await hub.current().close()
        return heard

    assert not asyncio.run(scene())


def test_the_subscriber_comes_back_and_wakes_everyone(redis: Redis) -> None:
    """Redis drops the subscriber; what was said meanwhile is unknown, so everyone reads again."""

    async def scene() -> bool:
        await connected()
        with wakeups.subscribe("topic:a") as news:
            redis.client_kill_filter(_type="pubsub")
            heard = await news.wait(30)
            while not hub.current().hears:
                await news.wait(1)
        await hub.current().close()
        return heard

    assert asyncio.run(scene())


def test_without_redis_waiters_look_again_soon(settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    async def scene() -> bool:
        with wakeups.subscribe("topic:a") as news:
            heard = await news.wait(30)
        await hub.current().close()
        return heard

    assert asyncio.run(scene())


@pytest.mark.django_db(transaction=True)
def test_one_message_after_commit_carries_all_channels(redis: Redis) -> None:
    with redis.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(hub.REDIS_CHANNEL)
        listener.get_message(timeout=5)
        with transaction.atomic():
            wakeups.announce_on_commit("topic:a", "topic:b")
            assert listener.get_message(timeout=0) is None
        heard = listener.get_message(timeout=5)
    assert heard is not None
    assert heard["data"].decode().split("\n")[1:] == ["topic:a", "topic:b"]


def announced(redis: Redis, scene: Callable[[], None]) -> list[list[str]]:
    """Return the channels of each message that the scene sends."""
    with redis.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(hub.REDIS_CHANNEL)
        listener.get_message(timeout=5)
        scene()
        wakeups.announce(["the end"])
        found: list[list[str]] = []
        while not found or found[-1] != ["the end"]:
            message = listener.get_message(timeout=5)
            assert message is not None
            found.append(message["data"].decode().split("\n")[1:])
    return found[:-1]


@pytest.mark.django_db(transaction=True)
def test_one_transaction_sends_one_message(redis: Redis) -> None:
    def scene() -> None:
        with transaction.atomic():
            wakeups.announce_on_commit("topic:a")
            wakeups.announce_on_commit("topic:b", "topic:a")

    assert announced(redis, scene) == [["topic:a", "topic:b"]]


@pytest.mark.django_db(transaction=True)
def test_what_a_savepoint_undoes_is_not_announced_and_takes_nothing_along(redis: Redis) -> None:
    def scene() -> None:
        with transaction.atomic():
            with suppress(LookupError), transaction.atomic():
                wakeups.announce_on_commit("topic:undone")
                raise LookupError
            wakeups.announce_on_commit("topic:a")
            with suppress(LookupError), transaction.atomic():
                wakeups.announce_on_commit("topic:undone")
                raise LookupError

    assert announced(redis, scene) == [["topic:a"]]
