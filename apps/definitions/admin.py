from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db import models
from django.forms.fields import InvalidJSONInput
from django.utils.text import Truncator
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.access.auth import person_of
from apps.core.adminsite import may
from apps.core.errors import Invalid
from apps.definitions import services, work
from apps.definitions.models import Definition

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    _Form = forms.ModelForm[Definition]
else:
    _Form = forms.ModelForm

JSON_FIELDS = (
    "command",
    "env",
    "input_specs",
    "output_specs",
    "constraints",
    "retry_policy",
    "event_delivery",
)
TEXT_FIELDS = ("image", "python")


class JSONText(forms.JSONField):
    """JSON over several lines, as people write it."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        text = super().prepare_value(value)
        # Of what can't be read the text itself is shown again.
        if isinstance(value, InvalidJSONInput):
            return text
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


class DefinitionForm(_Form):
    """The body of POST /definitions as a form: the same rules judge it, and complain beside the fields."""

    command = JSONText(required=False, help_text='Such as ["python", "-m", "package"].')

    class Meta:
        model = Definition
        fields = ("name", "version", "description", *TEXT_FIELDS, *JSON_FIELDS, "timeout_s")

    def body(self) -> dict[str, Any]:
        given = self.cleaned_data
        body = {
            "id": self.instance.name if self.instance.pk else given.get("name", ""),
            "version": self.instance.version if self.instance.pk else given.get("version", ""),
            "description": given.get("description", ""),
            "timeout_s": given.get("timeout_s"),
        }
        # An empty form field is a member that is not given.
        body |= {name: given[name] for name in (*TEXT_FIELDS, *JSON_FIELDS) if given.get(name)}
        return body

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        # What is left empty is not given, which in the row is null.
        for name in (*TEXT_FIELDS, "command"):
            cleaned[name] = cleaned.get(name) or None
        try:
            work.read_definition(self.body(), python_ops=settings.GYOZA_PYTHON_OPS)
        except Invalid as exc:
            for error in exc.detail["errors"]:
                self._complain(error["field"], error["message"])
        return cleaned

    def _post_clean(self) -> None:
        """Leave the row alone: the service judges and writes it, and replacing a version is no mistake."""

    def _complain(self, path: str, message: str) -> None:
        field = "name" if path == "id" else path.split(".")[0]
        where = f"{path.partition('.')[2]}: " if "." in path else ""
        # A field that the form itself could not read has its complaint already.
        if field not in self.errors or field in self.cleaned_data:
            self.add_error(field if field in self.fields else None, f"{where}{message}")


@admin.register(Definition)
class DefinitionAdmin(ModelAdmin):  # type: ignore[misc]
    form = DefinitionForm
    formfield_overrides = {
        models.JSONField: {"form_class": JSONText, "widget": JSONText.widget},
        models.TextField: {"widget": UnfoldAdminTextInputWidget},
    }
    list_display = ("name", "version", "program", "topic", "created_at")
    list_filter = ("created_at",)
    search_fields = ("name", "description")
    ordering = ("-deployment",)
    fieldsets = (
        (None, {"fields": ("name", "version", "description")}),
        ("What it runs", {"fields": ("image", "command", "python", "env")}),
        ("What goes in and out", {"fields": ("input_specs", "output_specs")}),
        (
            "How it runs",
            {"fields": ("constraints", "retry_policy", "event_delivery", "timeout_s")},
        ),
    )

    @admin.display(description="runs")
    def program(self, definition: Definition) -> str:
        command = " ".join(definition.command or ())
        program = definition.python or " ".join(filter(None, (definition.image, command)))
        return Truncator(program).chars(80)

    @admin.display(description="topic")
    def topic(self, definition: Definition) -> str:
        return str(definition.event_delivery["topic"])

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name", "version") if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, "admin")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "admin")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "delete")

    def save_model(
        self, request: HttpRequest, obj: Definition, form: DefinitionForm, change: bool
    ) -> None:
        caller = person_of(request)
        definition, _ = services.deploy_definition(body=form.body(), caller=caller)
        obj.pk, obj.name, obj.version = definition.pk, definition.name, definition.version

    def delete_model(self, request: HttpRequest, obj: Definition) -> None:
        caller = person_of(request)
        services.delete_definitions(name=obj.name, version=obj.version, caller=caller)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Definition]) -> None:
        for definition in queryset:
            self.delete_model(request, definition)
