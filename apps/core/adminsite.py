"""What the admin pages of several apps are made of: rows that are only looked at, and actions that call services."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.http import HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.module_loading import import_string
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter

from apps.core.errors import GyozaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse

    from apps.core.caller import Caller

# An action names the rows it has changed, as long as people would read them.
MOST_NAMED = 10


class LookOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Nobody adds, edits or deletes a row by a form; who may look is Django's to say."""

    show_full_result_count = False

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the row of an id; None if there is none."""
        # Postgres takes no text with NUL.
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

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

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
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


class NothingForm(forms.Form):
    """Nothing to fill in but the button."""


class AskingAdmin(ReadOnlyAdmin):
    """A row's page whose buttons ask before they do something: a link alone must change nothing."""

    def ask(
        self,
        request: HttpRequest,
        object_id: str,
        *,
        title: str,
        question: str,
        change: Callable[[Any, dict[str, Any]], str],
        form_class: Callable[..., forms.Form] = NothingForm,
        initial: Callable[[Any], dict[str, Any]] | None = None,
    ) -> HttpResponse:
        """Show a form, and do what it asks for when it is sent; `change` returns what is told then."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            gone: HttpResponse = self._get_obj_does_not_exist_redirect(
                request, self.opts, object_id
            )
            return gone
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        back = reverse(f"{page}_change", args=[quote(row.pk)])
        sent = request.POST if request.method == "POST" else None
        form = form_class(sent, initial=initial(row) if initial else None)
        if form.is_valid():
            try:
                self.message_user(request, change(row, form.cleaned_data), messages.SUCCESS)
            except GyozaError as exc:
                form.add_error(None, exc.message)
            else:
                is_there = type(row)._default_manager.filter(pk=row.pk).exists()
                return HttpResponseRedirect(back if is_there else reverse(f"{page}_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "question": question,
            "form": form,
            "opts": self.opts,
            "row": row,
            "back": back,
        }
        return render(request, "core/admin_ask.html", context)


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
