"""What goes on behind the scenes: blobs that belong to no object, content that never arrived whole, objects kept for long enough."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from apps.core import clock
from apps.storage import incoming
from apps.storage.models import Leftover, Object, Space
from apps.storage.writes import ledger, uploads

if TYPE_CHECKING:
    from uuid import UUID

# Of each kind in one go; the next sweep goes on.
_BLOBS = 500
_SPACES = 100
_OBJECTS = 200


def sweep() -> int:
    """Remove what is due; return how many blobs, files and objects it was."""
    return incoming.sweep() + sweep_leftovers() + sweep_old_objects()


def sweep_leftovers() -> int:
    """Remove blobs that no object has and whose time has come, oldest first; stops when the backend is away."""
    due = Leftover.objects.filter(due_at__lte=clock.now()).order_by("due_at")
    removed = 0
    for blob in due.values_list("blob", flat=True)[:_BLOBS]:
        if not uploads.discard(blob):
            break
        removed += 1
    return removed


def sweep_old_objects() -> int:
    """Delete the objects of executions that ended longer ago than GYOZA_STORAGE_KEEP_DAYS, and tell it."""
    days = settings.GYOZA_STORAGE_KEEP_DAYS
    if not days:
        return 0
    before = clock.now() - timedelta(days=days)
    old = Space.objects.filter(closed_at__lt=before, count__gt=0).order_by("closed_at")
    return sum(_empty(space_id) for space_id in old.values_list("pk", flat=True)[:_SPACES])


def _empty(space_id: UUID) -> int:
    removed = 0
    while True:
        with transaction.atomic():
            space = ledger.lock_space(space_id)
            # It may have been opened again.
            if space.closed_at is None:
                return removed
            objects = list(Object.objects.filter(space=space).order_by("name")[:_OBJECTS])
            if objects:
                ledger.remove(space, objects)
        # Their blobs are due at once: `sweep_leftovers` comes for those that this doesn't get to.
        for one in objects:
            uploads.discard(one.blob)
        removed += len(objects)
        if len(objects) < _OBJECTS:
            return removed
