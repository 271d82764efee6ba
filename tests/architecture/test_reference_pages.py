"""Generated pages say what the code says."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from apps.core.api.exception_handler import STATUS, status_of_kind
from apps.core.errors import GyozaError
from apps.core.management.commands import docs
from apps.core.reference import commands, errors, events


def test_every_page_is_fresh():
    call_command("docs", "--check")


def test_a_stale_page_is_told_by_name(monkeypatch):
    monkeypatch.setitem(docs.PAGES, "errors.md", lambda: "else")
    with pytest.raises(CommandError, match=r"stale: errors\.md"):
        call_command("docs", "--check")


@pytest.mark.parametrize("kind", errors.every_error(), ids=lambda kind: kind.__qualname__)
def test_every_error_is_complete(kind):
    assert 400 <= status_of_kind(kind) <= 599
    assert errors.sentence(kind).endswith((".", "?", "!")), f"{kind} needs a sentence"
    assert kind.code
    assert f"`{kind.code}`" in errors.page() or kind is GyozaError


def test_every_row_of_the_table_is_an_error_of_the_core():
    assert {kind.__module__ for kind in STATUS} == {"apps.core.errors"}


@pytest.mark.parametrize("kind", events.event_types(), ids=lambda kind: kind.__qualname__)
def test_every_event_type_says_when_it_happens(kind):
    assert events.sentences(kind).keys() == set(kind.__members__)


@pytest.mark.parametrize(("path", "view"), events.streams(), ids=lambda value: str(value))
def test_every_stream_lists_its_frames(path, view):
    assert view.frames, f"{view.__qualname__}.frames: list the kinds of frames it sends"
    assert all(kind.sentence.endswith(".") for kind in view.frames)


def test_every_command_has_its_section():
    page = commands.page()
    for name in commands.commands():
        assert f"\n### {name}\n" in page
    assert {"up", "test", "ci"} <= {name for name, _ in commands.targets()}


def test_cells_of_a_table_keep_their_pipes():
    assert "a.\\|b." in commands.page()
