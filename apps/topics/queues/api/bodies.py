"""Request bodies and parameters of queues (topics v0 §18), checked in the order the specification gives."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from apps.core.errors import Invalid
from apps.topics.api.bodies import U32
from apps.topics.appending import batch
from apps.topics.appending.writes import MAX_NODE_BYTES
from apps.topics.config import LEASE_MS, U64, require_u64
from apps.topics.errors import BatchTooLarge

# topics v0 §4.1
MAX_CLAIM = 1000
MAX_SEQS = 1000
MAX_DELAY_MS = 86_400_000

_LEASE = re.compile(r"lease_([0-9a-fA-F]{1,16})", re.ASCII)


class ClaimBody(msgspec.Struct, gc=False):
    """`POST /v0/topics/<q>/claim`"""

    node: str
    max: U32 = 1
    lease_ms: U64 | None = None

    def __post_init__(self) -> None:
        require_u64(lease_ms=self.lease_ms or 0)


class AckBody(msgspec.Struct, gc=False):
    """`POST /v0/topics/<q>/ack`"""

    node: str
    seqs: list[U64]
    lease_ids: list[str] | None = None

    def __post_init__(self) -> None:
        require_u64(seqs=max(self.seqs, default=0))


class NackBody(AckBody, gc=False):
    """`POST /v0/topics/<q>/nack`"""

    delay_ms: U64 = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_u64(delay_ms=self.delay_ms)


class ExtendBody(AckBody, gc=False, kw_only=True):
    """`POST /v0/topics/<q>/extend`"""

    lease_ms: U64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_u64(lease_ms=self.lease_ms)


class RedriveBody(msgspec.Struct, gc=False):
    """`POST /v0/topics/<q>/dead-letters/redrive`"""

    seqs: list[U64] | None = None
    limit: U32 = 0

    def __post_init__(self) -> None:
        require_u64(seqs=max(self.seqs or (), default=0))


Body = TypeVar("Body", bound=AckBody)

read_claim = msgspec.json.Decoder(ClaimBody)
read_ack = msgspec.json.Decoder(AckBody)
read_nack = msgspec.json.Decoder(NackBody)
read_extend = msgspec.json.Decoder(ExtendBody)
read_redrive = msgspec.json.Decoder(RedriveBody)


def leases_of(body: AckBody) -> list[int]:
    """Check who decides about what (§18.2), and return the lease numbers beside the seqs, 0 where none is given."""
    leases = [_lease_number(text) for text in body.lease_ids or ()]
    if not body.node:
        raise Invalid("`node` is empty")
    if len(body.seqs) > MAX_SEQS:
        raise BatchTooLarge(f"more than {MAX_SEQS} seqs", seqs=len(body.seqs), max=MAX_SEQS)
    if leases and len(leases) != len(body.seqs):
        raise Invalid("`lease_ids` and `seqs` differ in length")
    return leases or [0] * len(body.seqs)


def claimed_node(node: str) -> bytes:
    """Return the name of a lease holder as it is stored; raises Invalid."""
    if not node:
        raise Invalid("`node` is empty")
    if len(node.encode()) > MAX_NODE_BYTES:
        raise Invalid(f"`node` is longer than {MAX_NODE_BYTES} bytes")
    return batch.escape(node)


def clamped_max(wanted: int) -> int:
    """Return how many jobs a claim may get: 1 … 1000."""
    return min(max(wanted, 1), MAX_CLAIM)


def clamped_lease(lease_ms: int) -> int:
    """Return how long a lease may last."""
    low, high = LEASE_MS
    return min(max(lease_ms, low), high)


def _lease_number(text: str) -> int:
    if not text:
        return 0
    found = _LEASE.fullmatch(text)
    if found is None:
        raise Invalid("a lease id is `lease_` and hex digits")
    number = int(found[1], 16)
    # No lease has the number 0 or one beyond bigint, so this one is nobody's.
    return number if 0 < number < 2**63 else -1
