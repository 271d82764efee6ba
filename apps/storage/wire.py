"""Objects as clients see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core import clock

if TYPE_CHECKING:
    from apps.storage.models import Object

JSON = Any


def object_body(one: Object, *, with_metadata: bool = True) -> dict[str, JSON]:
    """Return what is told of an object."""
    return {
        "key": one.key,
        "execution_id": str(one.space_id),
        "stage": one.stage,
        "path": one.path,
        "extension": one.extension,
        "content_type": one.content_type,
        "content_length": one.content_length,
        "checksum": f"sha256:{one.sha256}",
        "etag": one.etag,
        "created_at": clock.rfc3339(one.created_at),
        "modified_at": clock.rfc3339(one.modified_at),
        "run_id": None if one.run_id is None else str(one.run_id),
        **({"metadata": one.metadata} if with_metadata else {}),
    }
