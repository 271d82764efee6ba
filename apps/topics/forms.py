"""What operators fill in on a topic's page."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from apps.topics.config import MAX_U64
from apps.topics.states import Discard, Durability


class TrimForm(forms.Form):
    before_seq = forms.IntegerField(
        min_value=0,
        max_value=MAX_U64,
        required=False,
        help_text="Records with a smaller seq.",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    match = forms.CharField(
        required=False,
        strip=False,
        max_length=1000,
        help_text="Records with this tag; with a * at the end, those whose tag begins so.",
        widget=UnfoldAdminTextInputWidget,
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and cleaned.get("before_seq") is None and not cleaned.get("match"):
            raise forms.ValidationError("Name a seq, a tag, or both.")
        return cleaned


def _limit(text: str) -> forms.IntegerField:
    return forms.IntegerField(
        min_value=0, max_value=MAX_U64, help_text=text, widget=UnfoldAdminIntegerFieldWidget
    )


class RetentionForm(forms.Form):
    ttl_ms = _limit("Milliseconds; 0 = never expire.")
    cap_records = _limit("0 = no limit.")
    cap_bytes = _limit("0 = no limit.")
    discard = forms.ChoiceField(
        choices=[(value, value) for value in map(str, Discard)],
        help_text="What a full topic does to a write: drop the oldest records, or reject it.",
        widget=UnfoldAdminSelectWidget,
    )
    durability = forms.ChoiceField(
        choices=[(value, value) for value in map(str, Durability)],
        help_text="Only fsync waits for the disk.",
        widget=UnfoldAdminSelectWidget,
    )
