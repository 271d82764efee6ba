"""Keys of objects: `<execution>/<stage>/<path>`, read from what a client has sent, byte by byte."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from apps.core.errors import Invalid

MAX_KEY_BYTES = 1024
# `<key>/metadata` is a path of its own.
RESERVED = "metadata"
DEFAULT_TYPE = "application/octet-stream"
_EXECUTION_BYTES = 36
# A client that has encoded a segment more often than this means no harm, and no name either.
_MOST_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Key:
    """An execution, by UUID or tag, and the name of an object in its space."""

    execution: str
    name: str


def read_key(raw: bytes) -> Key:
    """Read a key from a raw path, percent-encoded as it came. Raises Invalid for what can't be one."""
    return plain_key(_decoded(raw))


def plain_key(text: str) -> Key:
    """Read a key as answers have it, not encoded. Raises Invalid for what can't be one."""
    execution, _, name = text.partition("/")
    _check_segment(execution)
    check_name(name)
    return Key(execution, name)


def check_name(name: str) -> None:
    """Raise Invalid unless it can be the name of an object: a stage and a path."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError as exc:
        raise _wrong("is not UTF-8") from exc
    if length > MAX_KEY_BYTES - _EXECUTION_BYTES - 1:
        raise _wrong(f"is longer than {MAX_KEY_BYTES} bytes")
    segments = name.split("/")
    for segment in segments:
        _check_segment(segment)
    if len(segments) < 2:
        raise _wrong("must be <execution>/<stage>/<path>")
    if segments[-1] == RESERVED:
        raise _wrong(f'must not end in "{RESERVED}", which is reserved')


def split(name: str, stage: str | None) -> tuple[str, str]:
    """Return stage and path of a name; without a stage, it is the first segment. Raises Invalid if it isn't the stage's."""
    if stage is None:
        first, _, path = name.partition("/")
        return first, path
    if not name.startswith(f"{stage}/"):
        raise Invalid.of([("X-Stage", "must be how the key goes on after the execution")])
    return stage, name[len(stage) + 1 :]


def extension_of(name: str) -> str:
    """Return the extension of a name in lower case with its dot; empty if there is none."""
    last = name.rpartition("/")[2]
    stem, dot, extension = last.rpartition(".")
    return f".{extension.lower()}" if dot and stem and extension else ""


def type_of(name: str) -> str:
    """Return the media type that a name's extension says."""
    return mimetypes.guess_type(name)[0] or DEFAULT_TYPE


def folder_of(name: str) -> str:
    """Return a name up to its last slash, which is included."""
    return name[: name.rfind("/") + 1]


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as exc:
        # Overlong forms are no UTF-8 either.
        raise _wrong("is not UTF-8") from exc


def _check_segment(segment: str) -> None:
    if not segment:
        raise _wrong("has an empty segment")
    rounds = 0
    meant = segment
    # Whatever decodes a name once more, on its way or later, must not find a way out in it.
    while True:
        if meant in {".", ".."} or any(part in {".", ".."} for part in meant.split("/")):
            raise _wrong('has a segment "." or ".."')
        if "\\" in meant:
            raise _wrong("has a backslash")
        if any(ord(character) < 32 or ord(character) == 127 for character in meant):
            raise _wrong("has a control character")
        if "%" not in meant:
            return
        decoded = unquote_to_bytes(meant).decode("utf-8", "replace")
        if decoded == meant:
            return
        if (rounds := rounds + 1) > _MOST_ROUNDS:
            raise _wrong("is encoded too often")
        meant = decoded


def _wrong(message: str) -> Invalid:
    return Invalid.of([("key", message)], where="path")
