"""What a client says on a socket (topics v0 §19), read from its text."""

from __future__ import annotations

import msgspec

from apps.core.errors import Invalid, InvalidJson
from apps.core.sse.frames import Kind
from apps.topics.api.bodies import TOO_DEEP, U32, SelectionBody, WatchedBody
from apps.topics.config import U64, require_u64

SUBSCRIBE = Kind(
    "subscribe",
    "Follow `topic` from `from_seq` (0) or its end (`tail`), and `topics`, a map of name → `{from_seq, tail}`; 256 in all. With"
    " `node`, `tag`, `limit` (1000), `max_batch_bytes` (1 MiB), `include_data`, `include_tags`, `include_meta` as in a watch;"
    " `lenient` leaves out what does not exist. Replaces what followed the same topics. Needs `read`.",
)
UNSUBSCRIBE = Kind("unsubscribe", "Follow `topic`, and `topics`, an array, no longer.")
PUBLISH = Kind(
    "publish",
    "Write `records` to `topic`: the members of `POST /v0/topics/{topic}`, and `return_seqs` (true). Needs `write`, and `admin`"
    " with `config`.",
)
PING = Kind("ping", "Ask for a `pong`.")
COMMANDS = (SUBSCRIBE, UNSUBSCRIBE, PUBLISH, PING)

# It comes back with each answer.
MOST_ID_BYTES = 1024

_ABSENT = msgspec.Raw()
NO_ID = b"null"


class Command(msgspec.Struct, gc=False):
    """Any message: what is asked for, and what its answer is known by."""

    op: msgspec.Raw = _ABSENT
    request_id: msgspec.Raw = msgspec.Raw(NO_ID)


class SubscribeBody(SelectionBody, gc=False):
    """`subscribe`"""

    topic: str | None = None
    topics: dict[str, WatchedBody] = {}
    from_seq: U64 = 0
    tail: bool = False
    limit: U32 = 1000
    max_batch_bytes: U64 = 1024 * 1024
    lenient: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_u64(from_seq=self.from_seq)

    def wanted(self) -> dict[str, WatchedBody]:
        """Return where each named topic begins; raises Invalid if none is."""
        named = dict(self.topics)
        if self.topic is not None:
            named[self.topic] = WatchedBody(from_seq=self.from_seq, tail=self.tail)
        if not named:
            raise Invalid("neither `topic` nor `topics` names any")
        return named


class UnsubscribeBody(msgspec.Struct, gc=False):
    """`unsubscribe`"""

    topic: str | None = None
    topics: list[str] = []

    def named(self) -> list[str]:
        """Return the topics, each once; raises Invalid if none is named."""
        named = [*([] if self.topic is None else [self.topic]), *self.topics]
        if not named:
            raise Invalid("neither `topic` nor `topics` names any")
        return list(dict.fromkeys(named))


class PublishTarget(msgspec.Struct, gc=False):
    """What a `publish` has beside a write."""

    topic: str
    return_seqs: bool = True


read_subscribe = msgspec.json.Decoder(SubscribeBody)
read_unsubscribe = msgspec.json.Decoder(UnsubscribeBody)
read_target = msgspec.json.Decoder(PublishTarget)
_read = msgspec.json.Decoder(Command)
_read_any = msgspec.json.Decoder(msgspec.Raw)
_read_op = msgspec.json.Decoder(str)


def read_command(text: bytes) -> Command:
    """Read what any message has; raises InvalidJson, and Invalid for JSON that is no object."""
    try:
        try:
            return _read.decode(text)
        except msgspec.ValidationError as exc:
            _read_any.decode(text)  # it may be no JSON further on
            raise Invalid(str(exc)) from exc
    except msgspec.DecodeError as exc:
        raise InvalidJson(str(exc)) from exc
    except RecursionError as exc:
        raise InvalidJson(TOO_DEEP) from exc


def op_of(command: Command) -> str:
    """Return what is asked for; raises Invalid."""
    try:
        return _read_op.decode(command.op or b"null")
    except msgspec.MsgspecError as exc:
        raise Invalid("`op` is missing, or no string") from exc


def id_of(command: Command) -> bytes:
    """Return the id to be echoed, as it was written; raises Invalid for a long one."""
    if len(command.request_id) > MOST_ID_BYTES:
        raise Invalid(f"`request_id` is longer than {MOST_ID_BYTES} bytes")
    return bytes(command.request_id)
