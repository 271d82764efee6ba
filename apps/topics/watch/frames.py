"""The frames of a watch, byte for byte (topics v0 §17.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core.sse.frames import Kind
from apps.topics.watch.positions import encode_id, encode_unnamed, is_long

if TYPE_CHECKING:
    from apps.topics.keeping.retention import Gap
    from apps.topics.queries import JsonPage
    from apps.topics.watch.positions import Position
    from apps.topics.watch.readings import Reading

_ALL = "where every topic of the session stands, opaque"

RECORD = Kind(
    "record",
    "Records of `topic`, oldest first. `from_seq` and `to_seq` are its cursor before and after; it lags by `head_seq − to_seq`.",
    _ALL,
)
TOMBSTONE = Kind(
    "tombstone",
    "Records `gap_from` … `gap_to` of `topic` were lost before they could be told: `cap`, `ttl`, `mixed`, `source_trim`,"
    " `from_seq_too_old` (one of them, while nobody was connected), or `recreated`: another topic has the name now.",
    _ALL,
)
CAUGHT_UP = Kind("caught-up", "Nothing more is to be told of `topic` now.", _ALL)
DELETED = Kind(
    "topic-deleted",
    "`topic` is gone; `head_seq` was its last. When all are, the stream ends.",
    _ALL,
)
ERROR = Kind(
    "error",
    "`code` is `server_shutting_down`: the stream ends, connect again with the id; or `too_many_topics`: more begin with"
    " the prefix than a watch may have, and some are not followed.",
    _ALL,
)
KINDS = (RECORD, TOMBSTONE, CAUGHT_UP, DELETED, ERROR)

# ⚑20: what a client missed while it was away is said in these words; of the others it hears the true reason.
_TOO_OLD = frozenset({"cap", "ttl", "mixed"})


# What a connection is told last when the process stops, without the opening brace.
FAREWELL_DATA = b'"code":"server_shutting_down","message":"the server is stopping"}'


def record_data(name: str, reading: Reading, page: JsonPage, from_seq: int) -> bytes:
    """Return the members of a record event, without the opening brace; made once for all who share the read."""
    if not reading.data:
        reading.data = b'"topic":"%b","records":[%b],"from_seq":%d,"to_seq":%d,"head_seq":%d}' % (
            name.encode(),
            page.body,
            from_seq,
            page.next_after,
            page.marks.head,
        )
    return reading.data


def tombstone_data(name: str, gap: Gap, reason: str) -> bytes:
    """Return the members of a tombstone, without the opening brace."""
    return (
        b'"topic":"%b","reason":"%b","gap_from":%d,"gap_to":%d,"earliest_seq":%d,"head_seq":%d}'
    ) % (name.encode(), reason.encode(), gap.gap_from, gap.gap_to, gap.earliest_seq, gap.head_seq)


class Frames:
    """The dialect of server-sent events; every frame's id is where all topics of the session stand.

    Where topics come and go, those that were told as deleted are dropped from it, so that it does not grow with each.
    """

    def __init__(self, positions: dict[str, Position], *, drops_deleted: bool = False) -> None:
        self._positions = positions
        self._drops_deleted = drops_deleted
        # The session can supply the names where they don't come and go.
        self._encode_id = encode_unnamed if not drops_deleted and is_long(positions) else encode_id

    def records(self, name: str, reading: Reading, page: JsonPage, from_seq: int) -> bytes:
        where = self._encode_id(self._positions)
        return _made(reading, RECORD, where) or _kept(
            reading, RECORD, where, b"{" + record_data(name, reading, page, from_seq)
        )

    def lost(self, name: str, gap: Gap, *, is_first: bool) -> bytes:
        reason = "from_seq_too_old" if is_first and gap.reason in _TOO_OLD else gap.reason
        # A topic that was recreated is read from its beginning, wherever the gap is said to end.
        said = {name: gap.gap_to} if gap.reason == "recreated" else None
        data = b"{" + tombstone_data(name, gap, reason)
        return TOMBSTONE.frame(data, id=self._encode_id(self._positions, said=said))

    def caught_up(self, name: str, reading: Reading, head: int) -> bytes:
        where = self._encode_id(self._positions)
        return _made(reading, CAUGHT_UP, where) or _kept(
            reading, CAUGHT_UP, where, b'{"topic":"%b","head_seq":%d}' % (name.encode(), head)
        )

    def deleted(self, name: str, head: int) -> bytes:
        data = b'{"topic":"%b","head_seq":%d,"reason":"deleted"}' % (name.encode(), head)
        if self._drops_deleted:
            self._positions.pop(name, None)
        return DELETED.frame(data, id=self._encode_id(self._positions))

    def too_many_topics(self, most: int) -> bytes:
        """Return what is said when topics appear that can't be taken in."""
        data = b'{"code":"too_many_topics","message":"a watch follows at most %d topics"}' % most
        return ERROR.frame(data, id=self._encode_id(self._positions))

    def farewell(self) -> bytes:
        """Return the last frame of a stream that the server ends."""
        return ERROR.frame(b"{" + FAREWELL_DATA, id=self._encode_id(self._positions))


def _made(reading: Reading, kind: Kind, where: str) -> bytes | None:
    """Return the frame that another watcher has made of a read, if it has the same id."""
    made = reading.made.get(kind.event)
    # Equal ids of simple sessions are one object.
    return made[1] if made is not None and made[0] is where else None


def _kept(reading: Reading, kind: Kind, where: str, data: bytes) -> bytes:
    frame = kind.frame(data, id=where)
    reading.made[kind.event] = (where, frame)
    return frame
