"""What Prometheus is told of storage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.files.storage import FileSystemStorage

from apps.core import sql
from apps.core.exposition import gauge
from apps.core.threads import in_own_thread
from apps.storage import blobs

if TYPE_CHECKING:
    from apps.core.exposition import Series

MOST_COUNTED = 100_000


async def series() -> list[Series]:
    """Return how much is stored, how much room there is, where that is known, and how many blobs wait to be removed."""
    [row] = (await sql.run_async("storage/measure_storage", most=MOST_COUNTED)).rows
    return [
        gauge("gyoza_storage_objects", "Objects of all executions.", row["objects"]),
        gauge("gyoza_storage_bytes", "Their size.", row["bytes"]),
        *await in_own_thread(_room),
        gauge(
            "gyoza_storage_leftovers",
            f"Blobs that no object has: on their way in, or to be removed; {MOST_COUNTED} at most.",
            row["leftovers"],
        ),
    ]


def _room() -> list[Series]:
    backend = blobs.backend()
    if not isinstance(backend, FileSystemStorage):
        return []
    folder = Path(backend.location)
    try:
        # Made with the first object.
        usage = shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists()))
    except OSError:  # the disk is away
        return []
    return [
        gauge("gyoza_storage_disk_bytes", "Size of the disk that objects are on.", usage.total),
        gauge("gyoza_storage_disk_free_bytes", "What is free of it.", usage.free),
    ]
