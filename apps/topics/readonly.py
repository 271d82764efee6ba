"""Admin pages of topics, routers and queues: they show rows, and what changes them are actions that call services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from unfold.admin import ModelAdmin

from apps.access.auth import caller_of_user
from apps.core.errors import GyozaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from apps.access.auth import Caller


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Whoever may read may look; nobody adds, edits or deletes a row by a form."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return caller_of(request).may("read")

    def apply(
        self, request: HttpRequest, rows: QuerySet[Any], done: str, change: Callable[[Any], object]
    ) -> None:
        """Change rows one by one and tell what became of them."""
        changed = []
        for row in rows:
            try:
                change(row)
                changed.append(str(row))
            except GyozaError as exc:
                self.message_user(request, f"{row}: {exc.message}", messages.WARNING)
        if changed:
            self.message_user(request, f"{done} {', '.join(changed)}", messages.SUCCESS)


def caller_of(request: HttpRequest) -> Caller:
    """Return the person at the screen."""
    return caller_of_user(request.user)  # type: ignore[arg-type]


def once(row: Any, name: str, build: Callable[[], Any]) -> Any:
    """Build a part of a row's page once: the theme asks for each field several times."""
    parts: dict[str, Any] = row.__dict__.setdefault("_shown", {})
    if name not in parts:
        parts[name] = build()
    return parts[name]
