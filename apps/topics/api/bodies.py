"""Request bodies of /v0: read once, by msgspec, with payloads left as the text they are."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from apps.core.errors import Invalid
from apps.topics.appending.writes import WriteBody
from apps.topics.config import U64, TopicConfig, require_u64

# As many as a write may have records. A body of 64 MiB would hold twenty million names of nodes.
MOST_VALUES = 10_000
TOO_DEEP = "the body is nested too deeply"

U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
T = TypeVar("T")


class DiffBody(msgspec.Struct, gc=False):
    """`POST /v0/topics/<topic>/diff`"""

    from_seq: U64 = 0
    limit: U32 = 0
    node: str | list[str] | None = None
    include_tags: bool = False
    include_meta: bool = True
    wait_ms: U32 = 0
    max_batch_bytes: U64 = 0
    tag: str | list[str] | None = None

    def __post_init__(self) -> None:
        require_u64(from_seq=self.from_seq, max_batch_bytes=self.max_batch_bytes)

    @property
    def nodes(self) -> list[str]:
        return [self.node] if isinstance(self.node, str) else self.node or []


class DeleteBody(msgspec.Struct, gc=False):
    """`POST /v0/topics/<topic>/delete`"""

    before_seq: U64 | None = None
    match: str | list[str] | None = None

    def __post_init__(self) -> None:
        require_u64(before_seq=self.before_seq or 0)


class WatchedBody(msgspec.Struct, gc=False):
    """One topic of a watch."""

    from_seq: U64 = 0
    tail: bool = False

    def __post_init__(self) -> None:
        require_u64(from_seq=self.from_seq)


class SelectionBody(msgspec.Struct, gc=False):
    """What of its topics a reader of several wants."""

    tag: str | list[str] | None = None
    node: str | list[str] | None = None
    limit: U32 = 256
    max_batch_bytes: U64 = 262_144
    include_meta: bool = True
    include_tags: bool = False
    include_data: bool = True

    def __post_init__(self) -> None:
        require_u64(max_batch_bytes=self.max_batch_bytes)

    @property
    def nodes(self) -> list[str]:
        return [self.node] if isinstance(self.node, str) else self.node or []


class WatchBody(SelectionBody, gc=False):
    """`POST /v0/watch`"""

    topics: dict[str, WatchedBody] = {}
    prefix: str | None = None
    prefix_tail: bool = False
    heartbeat_ms: U64 = 15_000
    # ⚑30: only what is committed is ever pushed, which is all that `strong` asks for.
    consistency: Literal["eventual", "strong"] = "eventual"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_u64(heartbeat_ms=self.heartbeat_ms)


read_write = msgspec.json.Decoder(WriteBody)
read_diff = msgspec.json.Decoder(DiffBody)
read_delete = msgspec.json.Decoder(DeleteBody)
read_watch = msgspec.json.Decoder(WatchBody)
read_config = msgspec.json.Decoder(TopicConfig)


def parse_few(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Do as `parse` with a body that has lists of anything but records: refused before millions of values are made."""
    if body.count(b",") > MOST_VALUES:
        raise Invalid(f"the body has more than {MOST_VALUES} values")
    return parse(decoder, body)


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a body; raises Invalid."""
    try:
        if not body.isascii():
            # msgspec doesn't look into what it leaves as it is.
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as exc:
        raise Invalid("the body is not UTF-8") from exc
    except msgspec.MsgspecError as exc:
        raise Invalid(str(exc)) from exc
    except RecursionError as exc:
        raise Invalid(TOO_DEEP) from exc
