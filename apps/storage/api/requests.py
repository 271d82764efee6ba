"""What requests for objects say: keys, conditions, ranges, and the content with what is told of it."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from apps.core import intake, mediatypes
from apps.core.digits import read_digits
from apps.core.errors import Invalid, PreconditionFailed, RangeNotSatisfiable
from apps.core.slim import SlimRequest
from apps.storage import keys
from apps.storage.services import Condition, NewObject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from django.http import HttpRequest

    from apps.access.auth import Caller
    from apps.storage.keys import Key
    from apps.storage.models import Object

OBJECTS = b"/api/v1/storage/objects/"
MAX_METADATA_BYTES = 8 * 1024
_META = "x-meta-"
# What curl says of any data unless it is told otherwise.
_UNSAID = "application/x-www-form-urlencoded"
PIECE_BYTES = 1024 * 1024
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class Span(NamedTuple):
    """A part of an object: from `start`, `length` bytes."""

    start: int
    length: int


def key_of(request: HttpRequest, *, below: bytes = b"") -> Key:
    """Read the key from the path as the client sent it, not as anything has made sense of it since.

    `below` is what follows the key. Raises Invalid.
    """
    scope = getattr(request, "scope", None) or {}
    raw: bytes = scope.get("raw_path") or quote(request.path).encode()
    head, found, key = raw.partition(b"?")[0].partition(OBJECTS)
    if head or not found:
        raise Invalid.of([("key", "must follow a path that is written as it is")], where="path")
    # Both forms of what stands behind a key are answered; of the key itself, a slash at its end is no part.
    return keys.read_key(key.removesuffix(b"/").removesuffix(below) if below else key)


def new_object(request: HttpRequest, key: Key, caller: Caller) -> NewObject:
    """Read what the headers say of an object to be written. Raises Invalid."""
    if request.headers.get("Content-Range") is not None:
        # Taken for the whole, a part would replace it (RFC 9110 §14.5).
        raise _wrong("Content-Range", "is not for writes: an object is written whole")
    stage, _ = keys.split(key.name, _text(request.headers.get("X-Stage"), "X-Stage"))
    return NewObject(
        name=key.name,
        stage=stage,
        content_type=_content_type(request.headers.get("Content-Type"), key.name),
        metadata=_metadata(request.headers),
        run_id=caller.run_id,
        only_if=condition_of(request.headers),
    )


def announced_length(request: HttpRequest) -> int:
    """Return how long the body is said to be; 0 if nothing is said."""
    return read_digits(request.headers.get("Content-Length") or "") or 0


async def content_of(request: HttpRequest, limit: int) -> AsyncIterator[bytes]:
    """Yield the body in pieces of a MiB."""
    if not isinstance(request, SlimRequest):
        # Django has received it already.
        while piece := request.read(PIECE_BYTES):
            yield piece
        return
    gathered = bytearray()
    async for piece in intake.pieces(request.scope, request.receive, limit):
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def require_version(headers: Mapping[str, str], one: Object) -> None:
    """Raise PreconditionFailed if the client reads on in another version (RFC 9110 §13.2.2: If-Match comes first)."""
    tags, until = headers.get("If-Match"), _moment(headers.get("If-Unmodified-Since"))
    if tags is not None:
        listed = [tag.strip() for tag in tags.split(",")]
        is_it = bool({"*", f'"{one.etag}"'}.intersection(listed))
    else:
        is_it = until is None or one.modified_at.replace(microsecond=0) <= until
    if not is_it:
        raise PreconditionFailed(f"Object {one.key} is not the one that was named", key=one.key)


def is_unchanged(headers: Mapping[str, str], one: Object) -> bool:
    """Say whether the client has this version already (RFC 9110 §13.2.2: If-Modified-Since counts only alone)."""
    known = headers.get("If-None-Match")
    if known is not None:
        return known.strip() == "*" or f'"{one.etag}"' in [
            tag.strip().removeprefix("W/") for tag in known.split(",")
        ]
    since = _moment(headers.get("If-Modified-Since"))
    return since is not None and one.modified_at.replace(microsecond=0) <= since


def span_of(headers: Mapping[str, str], one: Object) -> Span | None:
    """Read which part is asked for; None for all of it, also for several, and for what isn't understood.

    Raises RangeNotSatisfiable.
    """
    asked = _RANGE.fullmatch((headers.get("Range") or "").strip().lower())
    if asked is None or not any(asked.groups()) or not _holds(headers.get("If-Range"), one):
        return None
    first, last = asked.groups()
    length = one.content_length
    if not first:
        start, stop = max(0, length - int(last)), length
    else:
        start, stop = int(first), length if not last else int(last) + 1
        if last and int(last) < int(first):
            return None
    if start >= length or stop <= start:
        raise RangeNotSatisfiable(f"the object has {length} bytes", length=length)
    return Span(start, min(stop, length) - start)


def _holds(condition: str | None, one: Object) -> bool:
    """If-Range: the strong tag of this version, or exactly its date."""
    if condition is None:
        return True
    if condition.strip().startswith(('"', "W/")):
        return condition.strip() == f'"{one.etag}"'
    return _moment(condition) == one.modified_at.replace(microsecond=0)


def _moment(given: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(given) if given else None
    except (ValueError, OverflowError):
        return None
    return moment if moment is None or moment.tzinfo else None


def condition_of(headers: Mapping[str, str]) -> Condition:
    """Read under which condition something is to be changed. Raises Invalid."""
    absent, tags = headers.get("If-None-Match"), headers.get("If-Match")
    if absent is not None and absent.strip() != "*":
        raise _wrong("If-None-Match", 'must be "*" on a write')
    if tags is None:
        return Condition(is_absent=absent is not None)
    listed = [tag.strip() for tag in tags.split(",")]
    if not all(tag == "*" or _ETAG.fullmatch(tag) for tag in listed):
        raise _wrong("If-Match", 'must be "*" or etags in quotes')
    # A weak one never matches (RFC 9110 §13.1.1), so it is left as it is.
    return Condition(absent is not None, frozenset(tag.strip('"') for tag in listed))


def _content_type(given: str | None, name: str) -> str:
    if not given or given.strip() == _UNSAID:
        return keys.type_of(name)
    if not mediatypes.is_media_type(given.strip()):
        raise _wrong("Content-Type", mediatypes.RULE)
    return given.strip()


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    found = {
        name.lower()[len(_META) :]: _text(headers[name], name) or ""
        for name in headers
        if name.lower().startswith(_META)
    }
    if sum(len(name) + len(value.encode()) for name, value in found.items()) > MAX_METADATA_BYTES:
        raise _wrong("X-Meta-*", f"must have at most {MAX_METADATA_BYTES} bytes together")
    return dict(sorted(found.items()))


def _text(given: str | None, name: str) -> str | None:
    """Headers arrive as Latin-1; what was meant is UTF-8."""
    if given is None:
        return None
    try:
        return given.encode("latin-1").decode("utf-8")
    except UnicodeError as exc:
        raise _wrong(name, "must be UTF-8") from exc


def _wrong(header: str, message: str) -> Invalid:
    # Places are of the query, the body or the path (pipelines-storage, intro); what headers say is said of the body.
    return Invalid.of([(header, message)])
