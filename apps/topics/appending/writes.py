"""A client's write as it comes in: checked in the order of topics v0 §12, and made into what is stored."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from apps.core import strictjson
from apps.core.errors import Invalid
from apps.topics.appending import batch
from apps.topics.appending.admission import Append
from apps.topics.appending.batch import Record
from apps.topics.config import TopicConfig
from apps.topics.errors import BatchTooLarge, RecordTooLarge
from apps.topics.names import require_unreserved

# topics v0 §4.1
MAX_RECORDS = 10_000
MAX_RECORD_BYTES = 1_048_576
MAX_META_BYTES = 16_384
MAX_TAG_BYTES = 256
MAX_NODE_BYTES = 128
MAX_KEY_BYTES = 256
# Whoever reads a record, however deep in calls itself, can take it apart: Python does so down to a thousand.
MAX_DEPTH = 500

Measure = Callable[[bytes], int]

_ABSENT = msgspec.Raw()
# Where msgspec has stumbled.
_BYTE = re.compile(r"\(byte (\d+)\)")
_meta_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])


class RecordBody(msgspec.Struct, gc=False):
    """One record of a write."""

    data: msgspec.Raw
    tag: str | None = None
    node: str | None = None
    meta: msgspec.Raw = _ABSENT


class WriteBody(msgspec.Struct, gc=False):
    """`POST /v0/topics/<topic>`"""

    records: list[RecordBody]
    node: str | None = None
    idempotency_key: str | None = None
    create: bool | None = None
    config: TopicConfig | None = None
    disable_backpressure: bool = False

    @property
    def creates(self) -> bool:
        """Say whether a missing topic is to be created (§12, ⚑13)."""
        if self.create is not None:
            return self.create
        return self.config is None or self.config.auto_create


def read_value(text: bytes) -> msgspec.Raw:
    """Take JSON text as it is; raises Invalid, which says where it is none."""
    try:
        msgspec.json.decode(text)
    except UnicodeDecodeError as exc:
        raise Invalid("no JSON: not UTF-8") from exc
    except RecursionError as exc:
        raise Invalid(f"nested deeper than {MAX_DEPTH}") from exc
    except msgspec.DecodeError as exc:
        raise Invalid(_told(exc, text)) from exc
    return msgspec.Raw(text)


def append_of(topic: str, body: WriteBody, *, text: bytes, key_header: str | None) -> Append:
    """Check a write in the order of §12 and return it as it is stored; raises what it is refused for.

    `text` is what the body was read from.
    """
    require_unreserved(topic)
    if not body.records:
        raise Invalid("`records` is empty")
    if len(body.records) > MAX_RECORDS:
        raise BatchTooLarge(f"more than {MAX_RECORDS} records")
    key = _key_of(body, key_header)
    common = None
    if body.node is not None:
        common = _limited("node", body.node, MAX_NODE_BYTES)
    # Most clients write no blanks, and one look at all of it costs less than one at each record.
    measure = len if batch.is_compact(text) else batch.compact_length
    records = [_record(given, common, measure) for given in body.records]
    return Append(
        topic=topic,
        records=records,
        size=sum([record.size for record in records]),
        key=key,
        creates=body.creates,
        config=body.config,
    )


def check_record(given: RecordBody) -> None:
    """Raise Invalid or RecordTooLarge for a record that no writer may bring (§4.1)."""
    _record(given, None, batch.compact_length)


def _told(exc: msgspec.DecodeError, text: bytes) -> str:
    """Say what is wrong with JSON, and where as editors count."""
    said = str(exc)
    place = _BYTE.search(said)
    if place is None:
        return "no JSON: it ends too soon" if "truncated" in said else f"no JSON: {said}"
    before = text[: int(place[1])].decode("utf-8", "replace")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    what = said[: place.start()].removeprefix("JSON is malformed: ").strip()
    return f"no JSON: {what} at line {line}, column {column}"


def _key_of(body: WriteBody, header: str | None) -> bytes | None:
    # The body's before the header's, which counts only if it is printable ASCII (§2.10).
    key = body.idempotency_key
    if key is None and header is not None and header.isascii() and header.isprintable():
        key = header
    if key is None:
        return None
    encoded = key.encode()
    if len(encoded) > MAX_KEY_BYTES:
        raise Invalid(f"the idempotency key is longer than {MAX_KEY_BYTES} bytes")
    return encoded


def _record(given: RecordBody, common_node: bytes | None, measure: Measure) -> Record:
    data = _shallow("data", given.data)
    size = measure(data)
    tag = None if given.tag is None else _limited("tag", given.tag, MAX_TAG_BYTES)
    node = common_node if given.node is None else _limited("node", given.node, MAX_NODE_BYTES)
    meta = None
    if given.meta:
        meta = _shallow("meta", given.meta)
        if meta == b"null":
            meta = None
        else:
            size += _checked_meta_size(meta, measure)
    if size > MAX_RECORD_BYTES:
        raise RecordTooLarge(f"a record has {size} bytes; at most {MAX_RECORD_BYTES} are possible")
    return Record(data=data, size=size, tag=tag, node=node, meta=meta)


def _shallow(name: str, value: msgspec.Raw) -> bytes:
    text = bytes(value)
    if strictjson.is_deeper(text, MAX_DEPTH):
        raise Invalid(f"`{name}` is nested deeper than {MAX_DEPTH}")
    return text


def _limited(name: str, text: str, most: int) -> bytes:
    # One character is at most four bytes: only longer texts need to be measured.
    if len(text) * 4 > most and len(text.encode()) > most:
        raise Invalid(f"`{name}` is longer than {most} bytes")
    return batch.escape(text)


def _checked_meta_size(meta: bytes, measure: Measure) -> int:
    size = measure(meta)
    if size > MAX_META_BYTES:
        raise Invalid(f"`meta` has {size} bytes; at most {MAX_META_BYTES} are possible")
    if meta.startswith(b"{") and len(_meta_keys.decode(meta)) > batch.MAX_META_KEYS:
        raise Invalid(f"`meta` has more than {batch.MAX_META_KEYS} keys")
    return size
