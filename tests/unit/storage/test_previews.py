"""How an object's content is shown."""

from __future__ import annotations

from apps.storage.models import Object
from apps.storage.previews import MOST_MARKDOWN, preview


def shown_as(text: str) -> str:
    content = text.encode()
    one = Object(content_type="text/markdown", extension=".md", content_length=len(content))
    return preview(one, content).kind


def test_markdown_that_would_take_long_to_read_is_shown_as_text():
    assert shown_as("[" * MOST_MARKDOWN) == "markdown"
    assert shown_as("[" * (MOST_MARKDOWN + 1)) == "text"
