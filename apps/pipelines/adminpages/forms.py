"""What operators fill in on the pages of pipelines and executions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.core import strictjson
from apps.core.errors import Invalid
from apps.pipelines import services, wire
from apps.pipelines.language import yamltext
from apps.pipelines.models import Pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.access.auth import Caller
    from apps.pipelines.models import Version

    _Form = forms.ModelForm[Pipeline]
else:
    _Form = forms.ModelForm


class CodeWidget(UnfoldAdminTextareaWidget):  # type: ignore[misc]
    """A box for text that is read by machines."""

    def __init__(self, rows: int) -> None:
        super().__init__(attrs={"rows": rows, "spellcheck": "false", "data-gz-code": ""})


class DocumentForm(_Form):
    """A pipeline's document as text: the rules of the API judge it, and say all they have to say beside it."""

    document = forms.CharField(
        strip=False,
        widget=CodeWidget(28),
        help_text="YAML or JSON. Saving makes a new version; those before stay.",
    )

    # Set by the page, which knows who looks and which version is asked for.
    caller: Caller
    version: Version | None = None

    class Meta:
        model = Pipeline
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.body: dict[str, Any] = {}
        if self.version is not None:
            said = wire.document(self.instance, self.version)
            self.initial.setdefault("document", yamltext.dump(said))

    def clean_document(self) -> str:
        text: str = self.cleaned_data["document"]
        try:
            self.body = yamltext.read(text.encode())
        except Invalid as exc:
            raise forms.ValidationError(exc.message) from exc
        complaints = services.validate_pipeline(body=self.body, caller=self.caller)
        complaints += self._complain_of_id(self.body.get("id"))
        if complaints:
            raise forms.ValidationError([f"{path}: {message}" for path, message in complaints])
        return text

    def _complain_of_id(self, given: Any) -> list[tuple[str, str]]:
        if self.version is not None:
            own = self.instance.pk
            return [] if given in (None, own) else [("id", f"is {own} and stays so")]
        is_taken = isinstance(given, str) and Pipeline.objects.filter(pk=given).exists()
        return [("id", f"there is a pipeline {given}")] if is_taken else []


class RunForm(forms.Form):
    inputs = forms.CharField(
        initial="{}", strip=False, widget=CodeWidget(6), help_text="A JSON object."
    )

    def clean_inputs(self) -> dict[str, Any]:
        try:
            return strictjson.read_object(self.cleaned_data["inputs"].encode())
        except Invalid as exc:
            raise forms.ValidationError(exc.message) from exc


class DeleteForm(forms.Form):
    force = forms.BooleanField(
        required=False,
        help_text="Cancel what runs and stop its trigger first.",
        widget=UnfoldBooleanSwitchWidget,
    )


class ReasonForm(forms.Form):
    reason = forms.CharField(required=False, max_length=1000, widget=UnfoldAdminTextInputWidget)


class AnswerForm(forms.Form):
    """An answer to one of the stages that wait for approval."""

    stage = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    answer = forms.ChoiceField(
        choices=[("yes", "Yes, go on"), ("no", "No")], widget=UnfoldAdminSelectWidget
    )
    comment = forms.CharField(required=False, max_length=1000, widget=UnfoldAdminTextInputWidget)

    def __init__(self, *args: Any, stages: Sequence[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["stage"].choices = stages  # type: ignore[attr-defined]


class ReplayForm(forms.Form):
    """From which step an execution that has ended is repeated."""

    from_stage = forms.ChoiceField(
        label="From step",
        widget=UnfoldAdminSelectWidget,
        help_text="It and what depends on it are done again; the other steps keep their outputs.",
    )
    tag = forms.CharField(
        required=False, widget=UnfoldAdminTextInputWidget, help_text="Another name of the new one."
    )

    def __init__(self, *args: Any, steps: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["from_stage"].choices = [(step, step) for step in steps]  # type: ignore[attr-defined]
