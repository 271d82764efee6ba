"""Frames of a server-sent event stream, byte for byte. Pure."""

from __future__ import annotations

from typing import NamedTuple

CONTENT_TYPE = "text/event-stream; charset=utf-8"


class Kind(NamedTuple):
    """A kind of frame that a stream sends. Its view lists it in `frames`; docs/reference/events.md tells of it."""

    event: str  # empty: a browser's `message`
    sentence: str
    id: str = ""  # what the id is; a control frame has none, or a browser would skip data when it comes back

    def frame(self, data: bytes, *, id: str = "") -> bytes:
        """Return one frame of this kind."""
        return frame(data=data, event=self.event, id=id)


def frame(*, data: bytes, event: str = "", id: str = "") -> bytes:
    """Return one frame: `id:`, `event:` and a single `data:` line, in this order, then the blank line.

    `data` is JSON without line breaks. Line breaks and NUL in the other fields are dropped: they would end the field.
    """
    lines = []
    if id:
        lines.append(b"id: " + _clean(id))
    if event:
        lines.append(b"event: " + _clean(event))
    lines.append(b"data: " + data.replace(b"\r", b"").replace(b"\n", b""))
    return b"\n".join(lines) + b"\n\n"


ERROR = Kind(
    "error",
    "The database is away: `error.code` is `unavailable`. The stream ends here, unfinished; come back with the last id.",
)


def database_away() -> bytes:
    """Return what a stream says last when it can't read any more."""
    told = b'{"error":{"code":"unavailable","message":"the database is not available"}}'
    return ERROR.frame(told)


def comment(text: str) -> bytes:
    """Return a comment: clients ignore it, proxies see that the stream lives."""
    return b": " + _clean(text) + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """Return the field that says how long a client waits before it connects again."""
    return f"retry: {milliseconds}\n\n".encode("ascii")


def _clean(text: str) -> bytes:
    if "\n" in text or "\r" in text or "\0" in text:
        text = text.translate({10: None, 13: None, 0: None})
    return text.encode()
