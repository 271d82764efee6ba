"""What all topics may hold together (topics v0 §4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from apps.core.steps import Statement

if TYPE_CHECKING:
    from apps.core.steps import Steps


def take_turn() -> Steps[int | None]:
    """Wait for the turn to spend what is left, and return how many bytes that are; None, at once, without a quota.

    Before any topic is locked. The turn is over with the transaction.
    """
    most: int = settings.GYOZA_MAX_TOTAL_BYTES
    if not most:
        return None
    yield Statement("topics/lock_quota", {})
    [used] = yield Statement("topics/bytes_used", {})
    return most - int(used["bytes"])
