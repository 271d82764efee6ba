from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextareaWidget

from apps.access import logins
from apps.access.models import ApiKey
from apps.access.scopes import Scope
from apps.core import clock
from apps.core.errors import Throttled

if TYPE_CHECKING:
    from datetime import datetime


class ThrottledLoginForm(AuthenticationForm):  # type: ignore[misc]
    """Django's login form, for people and not for programs that guess."""

    def clean(self) -> dict[str, Any]:
        account = str(self.cleaned_data.get("username") or "")
        address = str(self.request.META.get("REMOTE_ADDR") or "")
        try:
            logins.refuse_guessing(account=account, address=address)
        except Throttled as exc:
            raise ValidationError(exc.message, code=exc.code) from exc
        try:
            cleaned: dict[str, Any] = super().clean()
        except ValidationError:
            logins.note_failure(account=account, address=address)
            raise
        if self.user_cache is not None:
            logins.note_success(user=self.user_cache, address=address)
        return cleaned


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in Scope],
        initial=[Scope.READ],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    prefixes = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget,
        help_text="One per line: the names it sees begin with one of these. Empty: every name.",
    )

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "prefixes", "expires_at")

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if ApiKey.objects.standing().filter(name=name).exists():
            raise ValidationError("A standing key has this name.")
        return name

    def clean_prefixes(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["prefixes"].splitlines() if line.strip()]

    def clean_expires_at(self) -> datetime | None:
        moment: datetime | None = self.cleaned_data["expires_at"]
        if moment is not None and moment <= clock.now():
            raise ValidationError("Is in the past.")
        return moment
