"""Connections that Postgres has closed while they lay in a pool are not lent again, however many they are."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.db import connection

from apps.core import asyncdb
from apps.core.threads import in_thread
from tests import aio

pytestmark = pytest.mark.django_db(transaction=True)

# So many looks of the pool's own at dead connections, each after twice the time, would take longer than anybody waits.
DEAD = 4
END_OTHERS = (
    "SELECT count(pg_terminate_backend(pid, 30000)) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
)


def end_others() -> int:
    """End every connection but this thread's; returns how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(END_OTHERS)
        return int(cursor.fetchone()[0])


def in_threads(number: int, all_connected: threading.Barrier | None = None) -> list[object]:
    """Ask Postgres something from threads, at once if there is a barrier, and return what they were told."""
    told: list[object] = []

    def ask() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                if all_connected:
                    all_connected.wait()
                told.append(cursor.fetchone())
        except Exception as exc:
            told.append(exc)
            if all_connected:
                all_connected.abort()  # the others would wait for ever
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
        if all_connected is None:
            thread.join()
    for thread in threads:
        thread.join()
    return told


def test_the_first_to_ask_django_is_answered():
    connection.ensure_connection()  # none of the others'
    assert in_threads(DEAD, threading.Barrier(DEAD)) == [(1,)] * DEAD
    assert end_others() >= DEAD
    assert in_threads(3) == [(1,)] * 3


def test_the_first_to_ask_in_the_event_loop_is_answered():
    async def ask(all_connected: asyncio.Barrier | None = None) -> object:
        async with asyncdb.connection() as lent:
            if all_connected:
                await all_connected.wait()
            return await (await lent.execute("SELECT 1")).fetchone()

    connection.close()  # it would be ended with the others

    async def scene() -> None:
        barrier = asyncio.Barrier(DEAD)
        await asyncio.gather(*(ask(barrier) for _ in range(DEAD)))
        assert await in_thread(end_others) >= DEAD
        assert [await ask() for _ in range(3)] == [(1,)] * 3

    aio.run(scene())
