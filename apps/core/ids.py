"""Identifiers. Tests patch this module, nothing else makes ids."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import uuid_utils.compat

from apps.core import clock

if TYPE_CHECKING:
    from datetime import datetime


def uuid7() -> UUID:
    """Return a new UUIDv7; ids made by one process rise strictly."""
    return uuid_utils.compat.uuid7()


def lowest_at(moment: datetime) -> UUID:
    """Return an id below all UUIDv7 that are made at a moment or later."""
    return UUID(int=clock.milliseconds(moment) << 80)
