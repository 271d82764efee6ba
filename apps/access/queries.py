from __future__ import annotations

from typing import TYPE_CHECKING

from apps.access.models import ApiKey
from apps.core.errors import NotFound

if TYPE_CHECKING:
    from uuid import UUID


def standing_keys() -> list[ApiKey]:
    """Return every key that is not revoked; expired ones too, because time passes while a process remembers them."""
    return list(ApiKey.objects.standing())


def any_key_ever() -> bool:
    """Say whether a key was ever made, revoked ones included: revoking the last must not open the doors."""
    return ApiKey.objects.exists()


def get_key(*, key: UUID | str) -> ApiKey:
    """Return a key by id, or a standing one by name; raises NotFound."""
    found = (
        ApiKey.objects.standing().filter(name=key)
        if isinstance(key, str)
        else ApiKey.objects.filter(pk=key)
    ).first()
    if found is None:
        raise NotFound(f"no key {key}")
    return found
