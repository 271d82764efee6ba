"""What a page shows of an object's content: its beginning, as what it is, and never as a part of the page that runs."""

from __future__ import annotations

import codecs
import csv
import io
import json
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Literal

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from apps.storage.models import Object

Kind = Literal["text", "markdown", "json", "table", "image", "none"]

MOST_BYTES = 256 * 1024
# Reading Markdown can take the square of its length: more of it is shown as it is written.
MOST_MARKDOWN = 64 * 1024
MOST_ROWS = 200
MOST_COLUMNS = 50
# JSON over several lines may be much longer than it was.
MOST_SHOWN = 4 * MOST_BYTES

_IMAGES = frozenset(f"image/{one}" for one in ("avif", "bmp", "gif", "jpeg", "png", "webp"))
# Text, though their types don't begin with it.
_TEXTS = frozenset(
    f"application/{one}"
    for one in (
        *("ecmascript", "javascript", "sql", "toml", "x-httpd-php", "x-javascript", "x-ndjson"),
        *("x-python-code", "x-sh", "x-tex", "x-toml", "x-yaml", "xhtml+xml", "xml", "yaml"),
    )
)
# What remains of Markdown: no attribute but these, no image (a page that is looked at calls nobody), no style.
_TAGS = frozenset(
    [
        "a",
        "blockquote",
        "br",
        "code",
        "del",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCHEMES = frozenset({"http", "https", "mailto"})


@dataclass(frozen=True, slots=True)
class Preview:
    """What is shown: `text`, `html` or `rows`, by kind; `notes` say what is left out."""

    kind: Kind
    text: str = ""
    html: SafeString | None = None
    rows: tuple[list[str], ...] = ()
    notes: tuple[str, ...] = ()


def kind_of(one: Object) -> Kind:
    """Say as what an object is shown; "none" and "image" need nothing of its content."""
    essence = one.content_type.partition(";")[0].strip().lower()
    if essence in _IMAGES:
        return "image"
    if essence in {"text/markdown", "text/x-markdown"} or one.extension in {".md", ".markdown"}:
        return "markdown"
    if essence in {"application/json", "text/json"} or essence.endswith("+json"):
        return "json"
    if essence in {"text/csv", "text/tab-separated-values"}:
        return "table"
    if essence.startswith("text/") or essence in _TEXTS or essence.endswith("+xml"):
        return "text"
    return "none"


def preview(one: Object, content: bytes) -> Preview:
    """Return what is shown of an object, of which this is all or the first MOST_BYTES."""
    kind = kind_of(one)
    if kind in {"none", "image"}:
        return Preview(kind)
    is_cut = len(content) < one.content_length
    try:
        # A character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(content, not is_cut)
    except UnicodeDecodeError:
        return Preview("none", notes=("It is not UTF-8.",))
    notes = (f"Only the first {MOST_BYTES // 1024} KiB are shown.",) if is_cut else ()
    if kind == "markdown" and len(text) <= MOST_MARKDOWN:
        return Preview(kind, html=_markdown(text), notes=notes)
    if kind == "json":
        return _json(text, notes)
    if kind == "table":
        return _table(one, text, notes, is_cut=is_cut)
    if kind == "markdown":
        notes = (*notes, f"Markdown of more than {MOST_MARKDOWN // 1024} KiB is shown as text.")
    return Preview("text", text=text, notes=notes)


@cache
def _parser() -> MarkdownIt:
    # Pictures become links.
    return (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table", "strikethrough"])
        .disable("image")
    )


def _markdown(text: str) -> SafeString:
    cleaned = nh3.clean(
        _parser().render(text),
        tags=set(_TAGS),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        url_schemes=set(_SCHEMES),
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(cleaned)  # noqa: S308  # what nh3 lets through


def _json(text: str, notes: tuple[str, ...]) -> Preview:
    if notes:
        return Preview("text", text=text, notes=notes)
    try:
        value = json.loads(text)
        pieces: list[str] = []
        length = 0
        for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
            pieces.append(piece)
            length += len(piece)
            if length > MOST_SHOWN:
                return Preview("text", text=text, notes=("It nests too deep to be laid out.",))
        laid_out = "".join(pieces)
        # "\ud800", half a pair, is a string that no page can send; as it is written it is a text like others.
        laid_out.encode()
    except (ValueError, RecursionError):
        return Preview("text", text=text, notes=("It is not valid JSON, or nests too deep.",))
    return Preview("json", text=laid_out)


def _table(one: Object, text: str, notes: tuple[str, ...], *, is_cut: bool) -> Preview:
    if is_cut and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    delimiter = "\t" if "tab-separated" in one.content_type else ","
    left_out = list(notes)
    try:
        # The first row is the head.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = list(islice(reader, MOST_ROWS + 1))
        if next(reader, None) is not None:
            left_out.append(f"Only the first {MOST_ROWS} rows are shown.")
    except csv.Error:
        return Preview("text", text=text, notes=notes)
    if any(len(row) > MOST_COLUMNS for row in rows):
        left_out.append(f"Only the first {MOST_COLUMNS} columns are shown.")
        rows = [row[:MOST_COLUMNS] for row in rows]
    return Preview("table", rows=tuple(rows), notes=tuple(left_out))
