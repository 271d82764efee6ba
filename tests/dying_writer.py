"""A writer of one object, or of several together, as a process of its own, which dies by SIGKILL at a point that is named.

python -m tests.dying_writer EXECUTION NAME CONTENT POINT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import django


def _die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in_group(point: str) -> None:
    from apps.storage.writes import ledger
    from apps.topics import services as topics

    append = topics.append_events_on

    async def append_and_die(*args: Any) -> Any:
        await append(*args)
        _die()

    match point:
        case "within the group":
            ledger.attach = _die
        case "before the group's commit":
            topics.append_events_on = append_and_die  # type: ignore[assignment]
        case "after the group's commit":
            topics.Appended.tell = _die  # type: ignore[method-assign]


async def _write_together(execution: str, name: str, content: str) -> None:
    """Write objects as a web process does for several clients: `name`, and two more."""
    from apps.access.auth import ANONYMOUS
    from apps.storage.keys import Key
    from apps.storage.services import NewObject
    from apps.storage.writes import desk
    from apps.storage.writes.uploads import InMemory

    writes = [
        desk.write(
            key=Key(execution, one),
            caller=ANONYMOUS,
            new=NewObject(name=one, stage="s", content_type="text/plain"),
            length=len(content),
            content=partial(InMemory, content.encode()),
        )
        for one in (name, f"{name}/2", f"{name}/3")
    ]
    await asyncio.gather(*writes)


def main(execution: str, name: str, content: str, point: str) -> None:
    django.setup()
    from apps.storage import blobs, events, services
    from apps.storage.incoming import Incoming

    def after(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            function(*args, **options)
            _die()

        return call

    match point:
        case "before the blob":
            blobs.write = _die
        case "within the blob":
            # The content is on the disk, and not yet in its place.
            Path.rename = _die  # type: ignore[method-assign]
        case "after the blob":
            blobs.write = after(blobs.write)
        case "before the event":
            events.append = _die
        case "before commit":
            events.append = after(events.append)
        case "after commit":
            services.discard = _die
        case "after the old blob":
            blobs.remove = after(blobs.remove)
    if "group" in point:
        _die_in_group(point)
        asyncio.run(_write_together(execution, name, content))
    new = services.NewObject(name=name, stage="s", content_type="text/plain")
    with Incoming() as arriving:
        arriving.add(content.encode())
        if point == "while it arrives":
            _die()
        services.put_object(execution_id=UUID(execution), new=new, content=arriving)


if __name__ == "__main__":
    main(*sys.argv[1:])
