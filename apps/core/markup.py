"""Pieces of HTML that pages of several apps show; their looks are in static/core/pieces.css."""

from __future__ import annotations

import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.html import format_html

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.utils.safestring import SafeString

JSON = Any


def text_block(text: str) -> SafeString:
    """Return text as it was written, in a box that scrolls."""
    return format_html('<pre class="gz-block">{}</pre>', text)


def tail_block(text: str) -> SafeString:
    """Return the end of a text in a box that is scrolled down to it."""
    return format_html('<pre class="gz-block gz-tail">{}</pre>', text)


def json_block(value: JSON) -> SafeString:
    """Return JSON over several lines, in a box that scrolls."""
    return text_block(json.dumps(value, indent=2, ensure_ascii=False))


def json_column(name: str) -> Callable[[Any, Any], SafeString | None]:
    """Return a read-only field of an admin page: a JSON column of the row."""
    value_of = attrgetter(name)

    @admin.display(description=name.replace("_", " "))
    def shown(_page: Any, row: Any) -> SafeString | None:
        value = value_of(row)
        return None if value is None else json_block(value)

    return shown
