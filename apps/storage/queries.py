"""Reads of spaces and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Q

from apps.storage import attempts
from apps.storage.errors import ExecutionNotFound, ObjectNotFound
from apps.storage.models import Object, Space

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from apps.access.auth import Caller
    from apps.storage.keys import Key


def spaces_visible_to(caller: Caller) -> QuerySet[Space]:
    """Return the spaces a caller may see: by the prefixes of its key; an op sees that of its own execution."""
    rows = Space.objects.all()
    if caller.run_id is not None:
        return rows.filter(pk__in=[attempts.execution_of(caller)])
    if not caller.prefixes:
        return rows
    allowed = Q()
    for prefix in caller.prefixes:
        allowed |= Q(visible_as__startswith=prefix)
    return rows.filter(allowed)


def find_space(*, named: str, caller: Caller) -> Space | None:
    """Return the space of an execution, by UUID or tag, if the caller may see it."""
    return spaces_visible_to(caller).filter(_named(named)).first()


def get_space(*, named: str, caller: Caller) -> Space:
    """Return the space of an execution, by UUID or tag. Raises ExecutionNotFound."""
    found = find_space(named=named, caller=caller)
    if found is None:
        raise ExecutionNotFound(f"Execution {named} not found", execution=named)
    return found


def get_object(*, key: Key, caller: Caller) -> Object:
    """Return an object by its key. Raises ExecutionNotFound, ObjectNotFound."""
    space = get_space(named=key.execution, caller=caller)
    found = Object.objects.filter(space=space, name=key.name).first()
    if found is None:
        raise ObjectNotFound(f"Object {key.execution}/{key.name} not found")
    return found


def _named(named: str) -> Q:
    try:
        return Q(pk=UUID(named))
    except ValueError:
        return Q(tag=named)
