"""django-eventstream reads our log through our channel manager and storage; what it can't do is done around it (ADR 0055)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import django_eventstream
import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django_eventstream import EventPermissionError, EventRequest
from django_eventstream import views as library
from django_eventstream.utils import get_channelmanager, get_storage

from apps.access.auth import ANONYMOUS
from apps.core import asyncdb
from apps.core.sse import hub, relay
from apps.core.threads import in_own_thread
from apps.storage.events import tag_of
from apps.storage.eventstream.channels import ExecutionChannels
from apps.storage.eventstream.log import EventLog
from apps.topics.models import Event
from tests import aio
from tests.asgi_client import opened as open_url
from tests.cast import caller_for
from tests.object_writer import open_space, write

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from redis import Redis

    from tests.asgi_client import Answer

pytestmark = pytest.mark.django_db(transaction=True)


def stream(*executions: str, **query: str) -> AbstractAsyncContextManager[Answer]:
    asked = "&".join(
        [
            *(f"execution_id={one}" for one in executions),
            *(f"{name}={value}" for name, value in query.items()),
        ]
    )
    return open_url(f"/api/v1/storage/events?{asked}")


def asked_for(*executions: str, after: int = 0) -> EventRequest:
    request = EventRequest()
    request.is_next = False
    request.channels = {tag_of(UUID(one)) for one in executions}
    request.channel_last_ids = dict.fromkeys(request.channels, str(after))
    return request


def test_the_library_finds_ours():
    assert isinstance(get_channelmanager(), ExecutionChannels)
    assert isinstance(get_storage(), EventLog)


def test_its_reads_are_reads_of_our_log():
    execution, other = open_space(), open_space()
    for number in range(7):
        write(execution, f"s/{number}")
        write(other, f"s/{number}")
    request = asked_for(execution)
    (channel,) = request.channels
    told: list[Any] = []
    while True:
        found = django_eventstream.get_events(request, limit=3, user=ANONYMOUS)
        told += found.channel_items[channel]
        if not found.channel_more:
            break
    assert [(one.channel, one.path) for one in told] == [(channel, f"{n}") for n in range(7)]
    assert [one.id for one in told] == sorted({one.id for one in told})
    assert get_storage().get_events(channel, told[3].id) == told[4:]
    assert get_storage().get_events(channel, told[-1].id) == []


def test_its_newest_id_is_that_of_our_log():
    execution = open_space()
    assert get_storage().get_current_id(tag_of(UUID(execution))) == 0
    write(execution, "s/a", "s/b")
    (told,) = get_storage().get_events(tag_of(UUID(execution)), 0)[1:]
    assert get_storage().get_current_id(tag_of(UUID(execution))) == told.id


def test_who_may_hear_a_channel_is_who_may_see_the_execution(owner, stranger):
    execution = open_space(visible_as="team.p")
    write(execution, "s/a")
    request = asked_for(execution)
    assert django_eventstream.get_events(request, user=caller_for(owner)).channel_items
    for user in (caller_for(stranger), None):
        with pytest.raises(EventPermissionError):
            django_eventstream.get_events(asked_for(execution), user=user)
    for channel in ("", "execution/", "execution/x", "topic:a"):
        assert not get_channelmanager().can_read_channel(caller_for(owner), channel)


def test_it_can_neither_write_nor_send(redis: Redis):
    """`send_event` would publish at once, inside a transaction that may yet fail."""
    execution = open_space()
    before = redis.info("stats")["total_commands_processed"]
    with pytest.raises(NotImplementedError):
        django_eventstream.send_event(tag_of(UUID(execution)), "storage.object.created", {})
    assert not Event.objects.exists()
    assert redis.info("stats")["total_commands_processed"] == before + 1


def test_there_is_no_second_log_and_no_second_bus():
    """Its Redis subscriber is started once and never again; so there is none, and no table of its own."""
    assert not apps.is_installed("django_eventstream")
    assert not hasattr(settings, "EVENTSTREAM_REDIS")
    assert library.get_listener_manager().redis_listener is None
    assert [n for n in connection.introspection.table_names() if "eventstream" in n] == []


def test_more_events_than_the_library_keeps_wait_for_a_client():
    execution = open_space()
    count = 5 * library.MAX_PENDING

    async def scene() -> list[str]:
        async with stream(execution) as answer:
            await in_own_thread(write, execution, *(f"s/{number}" for number in range(count)))
            return [(await answer.next_frame()).data["path"] for _ in range(count)]

    assert aio.run(scene()) == [str(number) for number in range(count)]


def test_streams_that_wait_hold_no_connection():
    execution = open_space()
    count = 4 * settings.GYOZA_DB_POOL

    async def scene() -> dict[str, int]:
        streams = [stream(execution) for _ in range(count)]
        answers = [await one.__aenter__() for one in streams]
        await in_own_thread(write, execution, "s/a")
        for answer in answers:
            assert (await answer.next_frame()).data["path"] == "a"
        pool = asyncdb._pools[asyncio.get_running_loop()]
        await relay.of(get_storage()).log.ended([])
        # One that is being made is not there yet.
        while (found := pool.get_stats())["pool_available"] < found["pool_size"]:
            await asyncio.sleep(0)
        for one in streams:
            await one.__aexit__(None, None, None)
        return dict(found)

    stats = aio.run(scene())
    assert stats["pool_size"] <= settings.GYOZA_DB_POOL
    assert stats.get("requests_waiting", 0) == 0


def test_one_read_serves_all_streams(monkeypatch: pytest.MonkeyPatch):
    execution = open_space()
    reads = 0
    read = EventLog.read

    async def counted(self: EventLog, *args: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(self, *args)

    async def scene() -> int:
        nonlocal reads
        streams = [stream(execution) for _ in range(50)]
        answers = [await one.__aenter__() for one in streams]
        # All of them are in step when each has had an event.
        await in_own_thread(write, execution, "s/0")
        for answer in answers:
            await answer.next_frame()
        while not hub.current().hears:
            await hub.current().is_reached()
        reads = 0
        for number in range(1, 6):
            await in_own_thread(write, execution, f"s/{number}")
            for answer in answers:
                assert (await answer.next_frame()).data["path"] == str(number)
        found = reads
        for one in streams:
            await one.__aexit__(None, None, None)
        return found

    monkeypatch.setattr(EventLog, "read", counted)
    assert aio.run(scene()) <= 2 * 5
