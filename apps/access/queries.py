from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib.auth import get_user_model

from apps.access.models import ApiKey
from apps.core.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def names_of(owners: Iterable[str]) -> dict[str, str]:
    """Return how people call the keys and the persons among owners, by owner; at most two queries, and none for others."""
    keys: list[UUID] = []
    people: list[int] = []
    for owner in set(owners):
        kind, _, named = owner.partition(":")
        if kind == "key":
            keys.append(UUID(named))
        elif kind == "user":
            people.append(int(named))
    found: dict[str, str] = {}
    if keys:
        rows = ApiKey.objects.filter(pk__in=keys).values_list("pk", "name")
        found |= {f"key:{pk}": name for pk, name in rows}
    if people:
        users = get_user_model().objects.filter(pk__in=people)
        found |= {f"user:{user.pk}": user.get_username() for user in users}
    return found
