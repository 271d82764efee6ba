"""Pages of a space: all objects by name, or one level of it as a file browser shows it, folders first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core import sql
from apps.storage import keys
from apps.storage.models import Object, StageTotal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apps.storage.models import Space

_AT_A_TIME = 500
# Behind every name: none is longer, and no character is higher.
_BEHIND_ALL = "\U0010ffff" * (keys.MAX_KEY_BYTES // 4)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list: names that begin with `prefix`, of stages whose name and a slash begin with `stage`."""

    prefix: str = ""
    stage: str | None = None
    extensions: Sequence[str] | None = None
    by_folder: bool = False
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A page: common prefixes and objects together are counted, limited and passed over."""

    objects: list[Object]
    common_prefixes: list[str]
    total: int


def page(space: Space, wanted: Wanted) -> Page:
    """Return a page of a space."""
    low = _narrowed(wanted.prefix, wanted.stage)
    if low is None:
        return Page([], [], 0)
    # With folders the prefix alone says which level it is; the stage only filters.
    if wanted.by_folder:
        low = wanted.prefix
    sums = _sums(space, low)
    # What all have needn't be looked for in each.
    is_needed = wanted.stage and not all(f"{one}/".startswith(wanted.stage) for one in sums)
    filters = {
        "space_id": space.pk,
        "low": low,
        "high": _behind(low),
        "stage": wanted.stage if is_needed else None,
        "extensions": None if wanted.extensions is None else list(wanted.extensions),
    }
    known = _known_total(sums, low, filters)
    if wanted.by_folder:
        return _level(wanted, filters, known)
    rows = sql.run("storage/list_objects", offset=wanted.offset, limit=wanted.limit, **filters).rows
    if known is None:
        known = sql.run("storage/count_objects", **filters).rows[0]["total"]
    return Page(_objects(rows), [], known)


def walk(space: Space, *, prefix: str = "", stage: str | None = None) -> Iterator[Object]:
    """Yield all objects that a list without limits would show, by name; those that come meanwhile if they are behind."""
    low = _narrowed(prefix, stage)
    if low is None:
        return
    rows = Object.objects.filter(space=space, name__lt=_behind(low)).order_by("name")
    found = list(rows.filter(name__gte=low)[:_AT_A_TIME])
    while found:
        yield from (one for one in found if stage is None or f"{one.stage}/".startswith(stage))
        found = list(rows.filter(name__gt=found[-1].name)[:_AT_A_TIME])


def _level(wanted: Wanted, filters: dict[str, Any], known: int | None) -> Page:
    folder = keys.folder_of(wanted.prefix)
    prefixes = [row["prefix"] for row in sql.run("storage/list_folders", **filters).rows]
    shown = prefixes[wanted.offset : wanted.offset + wanted.limit]
    rows = sql.run(
        "storage/list_in_folder",
        folder=folder,
        offset=max(0, wanted.offset - len(prefixes)),
        limit=wanted.limit - len(shown),
        **filters,
    ).rows
    # Without folders in it, all that begins so lies at this level.
    if prefixes or known is None:
        known = sql.run("storage/count_in_folder", folder=folder, **filters).rows[0]["total"]
    return Page(_objects(rows), shown, len(prefixes) + known)


def _sums(space: Space, low: str) -> dict[str, int]:
    """Return how many objects each stage holds that may have names beginning with `low`."""
    stages = StageTotal.objects.filter(space=space, count__gt=0).values_list("stage", "count")
    return {
        stage: count
        for stage, count in stages
        if low.startswith(f"{stage}/") or f"{stage}/".startswith(low)
    }


def _known_total(sums: dict[str, int], low: str, filters: dict[str, Any]) -> int | None:
    """Return how many there are, if the sums tell: when a stage is within what is asked for as a whole."""
    is_whole = all(f"{stage}/".startswith(low) for stage in sums)
    is_filtered = filters["stage"] is not None or filters["extensions"] is not None
    return sum(sums.values()) if is_whole and not is_filtered else None


def _narrowed(prefix: str, stage: str | None) -> str | None:
    """Return how all names begin that both allow; None if none does. A name begins with its stage and a slash."""
    if stage is None or prefix.startswith(stage):
        return prefix
    return stage if stage.startswith(prefix) else None


def _behind(prefix: str) -> str:
    """Return the first text behind all that begin with a prefix, by code points, which is by bytes of UTF-8 as well."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return _BEHIND_ALL
    following = ord(stem[-1]) + 1
    # There are no characters between these.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def _objects(rows: list[dict[str, Any]]) -> list[Object]:
    names = [field.attname for field in Object._meta.concrete_fields]
    for row in rows:
        # Django has psycopg leave jsonb as text, and reads it by its fields.
        row["metadata"] = json.loads(row["metadata"])
    return [Object.from_db(None, names, [row[name] for name in names]) for row in rows]
