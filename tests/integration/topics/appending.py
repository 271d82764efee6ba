"""Appends on their way through the group commit, and somebody who stands in their way."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from apps.topics.appending.admission import Append
from apps.topics.appending.batch import Record
from apps.topics.models import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def make_append(topic: str = "t", data: bytes = b"1", *, records: int = 1, **over: Any) -> Append:
    """Return an append of equal records."""
    made = [Record(data=data, size=len(data)) for _ in range(records)]
    return Append(topic=topic, records=made, size=records * len(data), **over)


@contextmanager
def held(topic: str, *, deletes: bool = False) -> Iterator[threading.Event]:
    """Hold a topic's lock until the event is set, or the block ends; then it is deleted, if it shall be."""
    is_held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            found = Topic.objects.select_for_update().get(name=topic)
            is_held.set()
            release.wait(30)
            if deletes:
                found.delete()
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait(30)
    try:
        yield release
    finally:
        release.set()
        thread.join()


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so."""
    while not condition():
        await asyncio.sleep(0)
