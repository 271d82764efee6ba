from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import Http404
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.urls import path, reverse
from unfold.paginator import InfinitePaginator

from apps.access.auth import person_of
from apps.core.adminsite import ReadOnlyAdmin
from apps.core.errors import GyozaError, NotFound
from apps.storage import pages
from apps.storage.models import Space

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponseBase
    from django.urls import URLPattern


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
            shown = pages.show(
                execution=unquote(object_id), asked=request.GET.dict(), caller=person_of(request)
            )
        except NotFound as exc:
            raise Http404(str(exc)) from exc
        context = {
            **self.admin_site.each_context(request),
            "title": f"Objects of {shown['space']}",
            "opts": self.opts,
            **shown,
        }
        if "found" in shown:
            page = reverse("admin:storage_space_content", args=[shown["space"].pk])
            context["content_url"] = f"{page}?object={quote(shown['found'].name, safe='')}"
        return render(request, "storage/admin_space.html", context)

    def content_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Send an object's content, as the API does."""
        self._require_view(request)
        try:
            return pages.content(
                execution=unquote(object_id),
                name=request.GET.get("object", ""),
                caller=person_of(request),
            )
        except GyozaError as exc:
            raise Http404(str(exc)) from exc

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise Http404
