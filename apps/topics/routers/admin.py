from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin

from apps.access.auth import person_of
from apps.core import clock
from apps.core.adminsite import ReadOnlyAdmin, may, once
from apps.topics.models import Router
from apps.topics.routers import queries, services

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from apps.topics.routers.queries import RouterLag


@admin.register(Router)
class RouterAdmin(ReadOnlyAdmin):
    list_display = (
        *("name", "source", "dest", "filter", "guarantee"),
        *("forwarded_total", "behind", "is_paused"),
    )
    list_filter = ("guarantee", "is_paused")
    list_select_related = ("source", "dest")
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a name."
    ordering = ("name",)
    actions = ("pause", "resume", "delete_routers")
    readonly_fields = ("filter", "behind", "since", "waits_for_room")
    fieldsets = (
        (None, {"fields": (("name", "created_at"), ("source", "dest"))}),
        (
            "What is copied",
            {
                "fields": (
                    ("filter", "guarantee"),
                    ("preserve_node", "preserve_tag"),
                    "allow_cycle",
                )
            },
        ),
        (
            "How far it is",
            {
                "fields": (
                    ("position", "forwarded_total"),
                    ("behind", "since"),
                    ("is_paused", "waits_for_room"),
                )
            },
        ),
    )

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "admin")

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return may(request, "delete")

    @admin.display
    def filter(self, router: Router) -> str:
        predicate = queries.predicate_of(router.filter_text, is_prefix=router.filter_is_prefix)
        return "everything" if predicate is None else " ".join(predicate.wire())

    @admin.display(description="records behind")
    def behind(self, router: Router) -> int:
        return router.source.head - router.position

    @admin.display(description="behind since")
    def since(self, router: Router) -> str | None:
        since = _lag(router).waiting_since
        return None if since is None else clock.rfc3339_of_milliseconds(since)

    @admin.display(boolean=True, description="the destination is full")
    def waits_for_room(self, router: Router) -> bool:
        return _lag(router).is_full

    @admin.action(description="Pause: nothing is copied", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Router]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Paused",
            lambda router: services.pause_router(router=router.name, caller=caller),
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Router]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Resumed",
            lambda router: services.resume_router(router=router.name, caller=caller),
        )

    @admin.action(
        description="Delete; what is not copied yet is not copied", permissions=["remove"]
    )
    def delete_routers(self, request: HttpRequest, queryset: QuerySet[Router]) -> None:
        caller = person_of(request)
        self.apply(
            request,
            queryset,
            "Deleted",
            lambda router: services.delete_router(router=router.name, caller=caller),
        )


def _lag(router: Router) -> RouterLag:
    found: RouterLag = once(router, "lag", lambda: queries.lag_of(router.name))
    return found
