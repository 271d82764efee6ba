"""What the admin pages of several apps are made of: rows that are only looked at, and actions that call services."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.utils.module_loading import import_string
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter

from apps.core.errors import GyozaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from apps.core.caller import Caller

# An action names the rows it has changed, as long as people would read them.
MOST_NAMED = 10


class LookOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Nobody adds, edits or deletes a row by a form; who may look is Django's to say."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(LookOnlyAdmin):
    """Whoever may read may look; what changes rows are actions that call services."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "read")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return may(request, "write")

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
            few = len(changed) <= MOST_NAMED
            told = ", ".join(changed) if few else str(len(changed))
            self.message_user(request, f"{done}: {told}", messages.SUCCESS)


class ExactFilter(TextFilter):  # type: ignore[misc]
    """A box to type a whole value into: a list of all values would read the whole table."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return (
            queryset.filter(**{str(self.parameter_name): self.value()})
            if self.value()
            else queryset
        )


def may(request: HttpRequest, scope: str) -> bool:
    """Say whether the person at the screen has a scope."""
    return _caller_of_user()(request.user).may(scope)


def once(row: Any, name: str, build: Callable[[], Any]) -> Any:
    """Build a part of a row's page once: the theme asks for each field several times."""
    parts: dict[str, Any] = row.__dict__.setdefault("_shown", {})
    if name not in parts:
        parts[name] = build()
    return parts[name]


@cache
def _caller_of_user() -> Callable[[Any], Caller]:
    found: Callable[[Any], Caller] = import_string(settings.GYOZA_IDENTIFY_USER)
    return found
