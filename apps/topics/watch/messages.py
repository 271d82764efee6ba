"""What followed topics have to tell on a WebSocket, byte for byte (topics v0 §19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core.sse.frames import Kind
from apps.topics.watch.frames import FAREWELL_DATA, record_data, tombstone_data

if TYPE_CHECKING:
    from apps.topics.keeping.retention import Gap
    from apps.topics.queries import JsonPage
    from apps.topics.watch.readings import Reading

KINDS = (
    Kind(
        "subscribed",
        "The answer to `subscribe`: `topics`, name → `{from_seq, head_seq, earliest_seq}`.",
    ),
    Kind("unsubscribed", "The answer to `unsubscribe`: `topics`. Nothing more is told of them."),
    Kind(
        "ack",
        "The answer to `publish`: `topic`, `first_seq`, `last_seq`, `seqs` (null without `return_seqs`), `head_seq`, `count`,"
        " `created`, `deduped`, `performance`.",
    ),
    Kind("record", "As the frame of a watch."),
    Kind("tombstone", "As the frame of a watch, always with the true reason."),
    Kind("caught_up", "Nothing more is to be told of `topic` now; it stands at `head_seq`."),
    Kind(
        "topic_deleted",
        "`topic` is gone, and followed no longer; `head_seq` is 0, `reason` is `deleted`.",
    ),
    Kind("pong", "The answer to `ping`."),
    Kind(
        "error",
        "`code` and `message`, `detail` if there is any: as of an HTTP error, and `invalid_json`, `unsupported_message` (it was"
        " binary), `server_shutting_down`. Only after the last, or a message over the limit, is the socket closed.",
    ),
)
FAREWELL = b'{"op":"error","request_id":null,' + FAREWELL_DATA
_RECORD = "op record"


class Messages:
    """The dialect of sockets: nothing to resume by, so that all who share a read are sent the same bytes."""

    def records(self, name: str, reading: Reading, page: JsonPage, from_seq: int) -> bytes:
        made = reading.made.get(_RECORD)
        if made is None:
            data = b'{"op":"record",' + record_data(name, reading, page, from_seq)
            made = reading.made[_RECORD] = ("", data)
        return made[1]

    def lost(self, name: str, gap: Gap, *, is_first: bool) -> bytes:
        return b'{"op":"tombstone",' + tombstone_data(name, gap, gap.reason)

    def caught_up(self, name: str, reading: Reading, head: int) -> bytes:
        return b'{"op":"caught_up","topic":"%b","head_seq":%d}' % (name.encode(), head)

    def deleted(self, name: str, head: int) -> bytes:
        # §19 tells 0, unlike a watch.
        return (
            b'{"op":"topic_deleted","topic":"%b","head_seq":0,"reason":"deleted"}' % name.encode()
        )
