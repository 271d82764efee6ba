"""How an object's content is shown."""

from __future__ import annotations

from apps.storage.models import Object
from apps.storage.previews import MOST_MARKDOWN, preview


def shown_as(text: str, content_type: str = "text/markdown") -> str:
    content = text.encode()
    one = Object(content_type=content_type, content_length=len(content))
    return preview(one, content).kind


def test_markdown_that_would_take_long_to_read_is_shown_as_text():
    assert shown_as("[" * MOST_MARKDOWN) == "markdown"
    assert shown_as("[" * (MOST_MARKDOWN + 1)) == "text"


def test_json_that_no_page_can_send_is_shown_as_it_is_written():
    assert shown_as('{"a": "\\ud83e\\udd5f"}', "application/json") == "json"
    assert shown_as('{"a": "\\ud83e"}', "application/json") == "text"
