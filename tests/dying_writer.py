"""A writer of one object as a process of its own, which dies by SIGKILL at a point that is named.

python -m tests.dying_writer EXECUTION NAME CONTENT POINT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import django


def _die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


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
    new = services.NewObject(name=name, stage="s", content_type="text/plain")
    with Incoming() as arriving:
        arriving.add(content.encode())
        if point == "while it arrives":
            _die()
        services.put_object(execution_id=UUID(execution), new=new, content=arriving)


if __name__ == "__main__":
    main(*sys.argv[1:])
