"""What pages for people show of a space: a level of it, or one object with a preview; the admin's and the console's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.core.digits import read_digits
from apps.core.errors import GyozaError, NotFound
from apps.core.markup import json_block
from apps.storage import downloads, listing, previews, queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpResponseBase

    from apps.access.auth import Caller
    from apps.storage.keys import Key
    from apps.storage.models import Object, Space
    from apps.storage.previews import Preview

# Folders and objects of one level on a page; Postgres counts an offset entry by entry.
PAGE = 100
MOST_PAGES = 10_000


def show(*, execution: str, asked: Mapping[str, str], caller: Caller) -> dict[str, Any]:
    """Return what templates/storage/space.html shows: the object that is asked for, or a level. Raises NotFound."""
    space = queries.get_space(named=execution, caller=caller)
    name = asked.get("object", "")
    return {
        "space": space,
        **(_object(space, name, caller) if name else _level(space, asked)),
    }


def content(*, execution: str, name: str, caller: Caller) -> HttpResponseBase:
    """Answer with an object's content, as the API does. Raises NotFound, Unavailable."""
    found, opened = queries.open_object(key=_key(execution, name), caller=caller)
    answer = downloads.download(found, None, opened)
    answer["Accept-Ranges"] = "none"
    return answer


@dataclass(frozen=True, slots=True)
class Crumb:
    """A folder on the way to what is shown."""

    label: str
    folder: str


def _level(space: Space, asked: Mapping[str, str]) -> dict[str, Any]:
    folder = asked.get("folder", "").replace("\0", "")
    if folder and not folder.endswith("/"):
        folder += "/"
    number = min(read_digits(asked.get("page", "")) or 1, MOST_PAGES)
    wanted = listing.Wanted(prefix=folder, by_folder=True, limit=PAGE, offset=(number - 1) * PAGE)
    page = listing.page(space, wanted)
    begin = (number - 1) * PAGE
    end = begin + len(page.common_prefixes) + len(page.objects)
    return {
        "crumbs": _crumbs(folder),
        "folder": folder,
        "folders": [(one[len(folder) :], one) for one in page.common_prefixes],
        "objects": [(one.name[len(folder) :], one) for one in page.objects],
        "total": page.total,
        "first": begin + 1,
        "last": end,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if end < page.total and number < MOST_PAGES else None,
    }


def _object(space: Space, name: str, caller: Caller) -> dict[str, Any]:
    key = _key(str(space.pk), name)
    one = queries.get_object(key=key, caller=caller)
    return {
        "crumbs": _crumbs(one.folder),
        "found": one,
        "base": one.name[len(one.folder) :],
        "metadata": json_block(one.metadata) if one.metadata else None,
        **_preview(one, key, caller),
    }


def _preview(one: Object, key: Key, caller: Caller) -> dict[str, Any]:
    shown: Preview = previews.Preview(previews.kind_of(one))
    if shown.kind in {"none", "image"}:
        return {"preview": shown}
    try:
        one, content = queries.read_object(key=key, caller=caller, most=previews.MOST_BYTES)
    except GyozaError as exc:
        return {"preview": previews.Preview("none"), "problem": exc.message}
    return {"preview": previews.preview(one, content)}


def _key(execution: str, name: str) -> Key:
    try:
        return queries.key_of(f"{execution}/{name}")
    except GyozaError as exc:
        raise NotFound(exc.message) from exc


def _crumbs(folder: str) -> list[Crumb]:
    parts = folder.split("/")[:-1]
    return [Crumb(part, "/".join(parts[: n + 1]) + "/") for n, part in enumerate(parts)]
