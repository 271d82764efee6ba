from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import Http404
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.urls import path
from unfold.paginator import InfinitePaginator

from apps.access.auth import person_of
from apps.core.adminsite import ReadOnlyAdmin
from apps.core.digits import read_digits
from apps.core.errors import GyozaError, NotFound
from apps.core.markup import json_block
from apps.storage import downloads, listing, previews, queries
from apps.storage.models import Object, Space

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponseBase
    from django.urls import URLPattern

    from apps.access.auth import Caller
    from apps.storage.keys import Key
    from apps.storage.previews import Preview

# Folders and objects of one level on a page; Postgres counts an offset entry by entry.
PAGE = 100
MOST_PAGES = 10_000


@admin.register(Space)
class SpaceAdmin(ReadOnlyAdmin):
    """What executions have stored: level by level, and each object with a preview."""

    list_display = ("__str__", "visible_as", "count", "size", "created_at", "closed_at")
    search_fields = ("execution_id",)
    search_help_text = "An execution's whole id, or its tag."
    ordering = ("-execution_id",)
    paginator = InfinitePaginator

    @admin.display(description="size", ordering="bytes")
    def size(self, row: Space) -> str:
        return str(filesizeformat(row.bytes))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Space], search_term: str
    ) -> tuple[QuerySet[Space], bool]:
        named = search_term.strip()
        if not named:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(named)), False
        except ValueError:
            return queryset.filter(tag=named), False

    def get_urls(self) -> list[URLPattern]:
        content = path(
            "<path:object_id>/content/",
            self.admin_site.admin_view(self.content_view),
            name="storage_space_content",
        )
        return [content, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponseBase:
        """Show a level of a space, or one of its objects."""
        self._require_view(request)
        try:
            space = queries.get_space(named=unquote(object_id), caller=person_of(request))
            name = request.GET.get("object", "")
            shown = _object(space, name, person_of(request)) if name else _level(space, request.GET)
        except NotFound as exc:
            raise Http404(str(exc)) from exc
        context = {
            **self.admin_site.each_context(request),
            "title": f"Objects of {space}",
            "opts": self.opts,
            "space": space,
            **shown,
        }
        return render(request, "storage/admin_space.html", context)

    def content_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send an object's content, as the API does."""
        self._require_view(request)
        try:
            key = _key(unquote(object_id), request.GET.get("object", ""))
            found, opened = queries.open_object(key=key, caller=person_of(request))
        except GyozaError as exc:
            raise Http404(str(exc)) from exc
        answer = downloads.download(found, None, opened)
        answer["Accept-Ranges"] = "none"
        return answer

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise Http404


@dataclass(frozen=True, slots=True)
class Crumb:
    """A folder on the way to what is shown."""

    label: str
    folder: str


def _level(space: Space, asked: Any) -> dict[str, Any]:
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
