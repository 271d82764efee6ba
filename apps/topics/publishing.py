"""What a person writes to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction

from apps.access import services as access
from apps.core.errors import Invalid
from apps.topics import services
from apps.topics.appending import writes
from apps.topics.appending.writes import MAX_RECORD_BYTES as MAX_RECORD_BYTES  # for forms
from apps.topics.appending.writes import RecordBody, WriteBody
from apps.topics.errors import TopicNotFound
from apps.topics.names import can_be_looked_up

if TYPE_CHECKING:
    import msgspec

    from apps.access.auth import Caller


class Typed(NamedTuple):
    """A record as somebody has typed it; `data` and `meta` are JSON text."""

    data: str
    tag: str | None
    node: str | None
    meta: str | None


def publish(*, topic: str, typed: Typed, caller: Caller) -> int:
    """Append a record to a topic that is there, checked as any client's is, with its entry in the trail; return its seq.

    Raises Invalid, RecordTooLarge, Forbidden for a topic of the service, TopicNotFound, TopicFull, Throttled
    when the log is full.
    """
    if not can_be_looked_up(topic):
        raise TopicNotFound.of(topic)
    record = RecordBody(_value("data", typed.data), typed.tag, typed.node)
    if typed.meta is not None:
        record.meta = _value("meta", typed.meta)
    append = writes.append_of(topic, WriteBody([record]), text=typed.data.encode(), key_header=None)
    if append.records[0].meta is None:
        typed = typed._replace(meta=None)  # null is none
    event = services.NewEvent(topic=topic, **typed._asdict())
    with transaction.atomic():
        try:
            [seq] = services.append_events([event], ensure=False, refusable={topic})
        except services.Refused as exc:
            raise exc.error from exc
        if not seq:
            raise TopicNotFound.of(topic)
        access.audit(
            caller=caller,
            action="topic.publish",
            target=f"topic:{topic}",
            seq=seq,
            bytes=append.size,
        )
    return seq


def _value(name: str, text: str) -> msgspec.Raw:
    try:
        return writes.read_value(text.encode())
    except Invalid as exc:
        raise Invalid.of([(name, f"is {exc.message}")]) from exc
