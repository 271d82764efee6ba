"""Generated pages say what the code says."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from apps.core.api.exception_handler import STATUS, status_of_kind
from apps.core.errors import GyozaError
from apps.core.management.commands import docs, docs_errors


def test_every_page_is_fresh():
    call_command("docs", "--check")


def test_a_stale_page_is_told_by_name(monkeypatch):
    monkeypatch.setitem(docs.PAGES, "errors.md", lambda: "else")
    with pytest.raises(CommandError, match=r"stale: errors\.md"):
        call_command("docs", "--check")


@pytest.mark.parametrize("kind", docs_errors.every_error(), ids=lambda kind: kind.__qualname__)
def test_every_error_is_complete(kind):
    assert 400 <= status_of_kind(kind) <= 599
    assert docs_errors.sentence(kind).endswith((".", "?", "!")), f"{kind} needs a sentence"
    assert kind.code
    assert f"`{kind.code}`" in docs_errors.page() or kind is GyozaError


def test_every_row_of_the_table_is_an_error_of_the_core():
    assert {kind.__module__ for kind in STATUS} == {"apps.core.errors"}
