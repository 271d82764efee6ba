"""Pages of a space: all objects by name, or one level of it as a file browser shows it, folders first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Sum, TextField, Value
from django.db.models.functions import Concat

from apps.core import sql
from apps.storage import keys
from apps.storage.models import Object, Space, StageTotal

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    filters = {
        "space_id": space.pk,
        "low": low,
        "high": _behind(low),
        "stage": wanted.stage or None,
        "extensions": None if wanted.extensions is None else list(wanted.extensions),
    }
    if wanted.by_folder:
        return _level(wanted, filters)
    rows = sql.run("storage/list_objects", offset=wanted.offset, limit=wanted.limit, **filters).rows
    return Page(_objects(rows), [], _total(space, wanted, filters))


def _level(wanted: Wanted, filters: dict[str, Any]) -> Page:
    folder = keys.folder_of(wanted.prefix)
    prefixes = [row["prefix"] for row in sql.run("storage/list_folders", **filters).rows]
    shown = prefixes[wanted.offset : wanted.offset + wanted.limit]
    total = sql.run("storage/count_in_folder", folder=folder, **filters).rows[0]["total"]
    rows = sql.run(
        "storage/list_in_folder",
        folder=folder,
        offset=max(0, wanted.offset - len(prefixes)),
        limit=wanted.limit - len(shown),
        **filters,
    ).rows
    return Page(_objects(rows), shown, len(prefixes) + total)


def _total(space: Space, wanted: Wanted, filters: dict[str, Any]) -> int:
    if wanted.prefix or wanted.extensions is not None:
        return int(sql.run("storage/count_objects", **filters).rows[0]["total"])
    if not wanted.stage:
        return space.count
    stages = StageTotal.objects.annotate(
        whole=Concat("stage", Value("/"), output_field=TextField())
    )
    found = stages.filter(space=space, whole__startswith=wanted.stage).aggregate(n=Sum("count"))
    return int(found["n"] or 0)


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
    # Django has psycopg leave jsonb as text, and reads it by its fields.
    return [Object(**{**row, "metadata": json.loads(row["metadata"])}) for row in rows]
