"""What is asked of a queue, and what came of it. Nodes are escaped as in the log (`batch.escape`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Claim:
    """Lease up to `most` jobs; `lease_ms` is the topic's unless given."""

    node: bytes
    most: int
    lease_ms: int | None = None
    # By a /work stream.
    is_pushed: bool = False
    # Set once it waits in a coalescing window; and since when, by the clock of its event loop.
    ticket: int | None = None
    filed_at: float = 0.0
    # Nobody is there any more who would take what it gets.
    is_withdrawn: bool = False


@dataclass(slots=True, eq=False)
class Verdict:
    """Decide about jobs that are leased; `leases` stands beside `seqs`, with 0 where none is given."""

    node: bytes
    seqs: list[int]
    leases: list[int]


@dataclass(slots=True, eq=False)
class Ack(Verdict):
    """They are done: delete them."""


@dataclass(slots=True, eq=False)
class Nack(Verdict):
    """Give them back, after a delay if there is one."""

    delay_ms: int = 0


@dataclass(slots=True, eq=False)
class Extend(Verdict):
    """Keep them until `lease_ms` from now."""

    lease_ms: int = 0


Order = Claim | Verdict


@dataclass(frozen=True, slots=True)
class Leased:
    """A job in somebody's hands; `members` is the inside of its JSON object (§18.3)."""

    seq: int
    lease: int
    deadline: int
    members: bytes

    @classmethod
    def of(cls, row: dict[str, Any]) -> Leased:
        """Read a job as `claim_jobs` and `read_leased` return it."""
        tag = "" if row["tag"] is None else f',"$tag":"{row["tag"]}"'
        meta = "" if row["meta"] is None else f',"meta":{row["meta"]}'
        deadline = row["due"] - 1
        members = (
            f'"$seq":{row["seq"]},"lease_id":"lease_{row["lease"]:x}","deadline":{deadline},"$ts":{row["ts"]}{tag}'
            f',"deliveries":{row["deliveries"]},"data":{row["data"]}{meta}'
        )
        return cls(row["seq"], row["lease"], deadline, members.encode())


@dataclass(frozen=True, slots=True)
class Depth:
    """The counters of a queue after a pass (§18.9)."""

    ready: int
    in_flight: int
    is_paused: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim was given, in seq order."""

    jobs: list[Leased]
    depth: Depth


@dataclass(frozen=True, slots=True)
class Filed:
    """A claim that waits for the end of its coalescing window."""

    ticket: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a verdict: seqs acted on and, in the order of the request, seqs that were not."""

    done: list[int]
    skipped: list[int]
    depth: Depth
    deadline: int = 0
    fsync_ms: float = 0.0


@dataclass(slots=True)
class Effects:
    """What others want to hear once a pass is committed."""

    # Jobs were returned, or /work streams have room again.
    is_news: bool = False
    # Topics that were appended to, and those of them which routers or triggers read.
    appended: set[str] = field(default_factory=set)
    listened_to: set[str] = field(default_factory=set)


Outcome = Claimed | Filed | Decided
