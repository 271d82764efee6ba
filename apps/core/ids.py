"""Identifiers. Tests patch this module, nothing else makes ids."""

from __future__ import annotations

from uuid import UUID  # noqa: TC003 - tests patch what is returned here

import uuid_utils.compat


def uuid7() -> UUID:
    """Return a new UUIDv7; ids made by one process rise strictly."""
    return uuid_utils.compat.uuid7()
