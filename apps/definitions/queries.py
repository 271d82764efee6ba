"""Reads of definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core.errors import Invalid, NotFound
from apps.definitions.models import Definition

if TYPE_CHECKING:
    from collections.abc import Collection

    from apps.access.auth import Caller
    from apps.definitions.models import DefinitionQuerySet

Wanted = tuple[str, str | None]


def get_definition(*, name: str, version: str | None, caller: Caller) -> Definition:
    """Return one version, or the latest without `version`. Raises NotFound."""
    found = find_definitions(wanted=[(name, version)], caller=caller)
    if (name, version) in found:
        return found[name, version]
    raise NotFound(f"no definition {name}" + (f" in version {version}" if version else ""))


def find_definitions(*, wanted: Collection[Wanted], caller: Caller) -> dict[Wanted, Definition]:
    """Return what exists of many (name, version or None for the latest), in at most two queries."""
    visible = _visible_to(caller)
    found: dict[Wanted, Definition] = {}
    latest = {name for name, version in wanted if version is None}
    if latest:
        for row in visible.filter(name__in=latest).latest_of_each_name():
            found[row.name, None] = row
    exact = {(name, version) for name, version in wanted if version is not None}
    if exact:
        names, versions = {name for name, _ in exact}, {version for _, version in exact}
        for row in visible.filter(name__in=names, version__in=versions):
            if (row.name, row.version) in exact:
                found[row.name, row.version] = row
    return found


def definitions_page(
    *,
    caller: Caller,
    name: str | None,
    latest: bool,
    limit: int,
    starting_after: str | None,
) -> tuple[list[Definition], bool]:
    """Return a page, newest deployment first, and whether there is more after it.

    `starting_after` is the `id@version` of the last row seen. Raises Invalid for one that does not exist.
    """
    rows = _visible_to(caller)
    if latest:
        rows = rows.latest_of_each_name()
    if name is not None:
        rows = rows.filter(name=name)
    if starting_after is not None:
        rows = rows.filter(deployment__lt=_deployment_of(starting_after, caller))
    page = list(rows.order_by("-deployment")[: limit + 1])
    return page[:limit], len(page) > limit


def _visible_to(caller: Caller) -> DefinitionQuerySet:
    return Definition.objects.get_queryset().visible_to(caller.prefixes)  # type: ignore[attr-defined, no-any-return]


def _deployment_of(cursor: str, caller: Caller) -> int:
    name, _, version = cursor.partition("@")
    row = _visible_to(caller).filter(name=name, version=version).first()
    if row is None:
        raise Invalid.of([("starting_after", "is not the id@version of a definition")])
    return row.deployment
