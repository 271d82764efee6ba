"""The config object of a topic (topics v0 §6): read strictly, echoed complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from apps.core.errors import Invalid
from apps.topics.names import is_topic_name, require_unreserved
from apps.topics.states import Durability

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_U64 = 2**64 - 1
U64 = Annotated[int, msgspec.Meta(ge=0)]  # above 2^63 msgspec can't bound: `require_u64`
I32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

LEASE_MS = (100, 86_400_000)
CLAIM_JITTER_MS = (0, 5_000)


def require_u64(**values: int) -> None:
    """Raise ValueError for an integer that is beyond 64 bits."""
    for name, value in values.items():
        if value > MAX_U64:
            raise ValueError(f"`{name}` is beyond 64 bits")


class TopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may say of a topic; what it leaves out is the default, also when the topic exists (⚑14)."""

    kind: Literal["log", "queue"] = msgspec.field(default="log", name="type")
    ttl_ms: U64 = 0
    cap_records: U64 = 0
    cap_bytes: U64 = 0
    discard: Literal["old", "reject"] = "old"
    durable: bool = False
    durability: Literal["ephemeral", "memory", "disk", "fsync"] | None = None
    priority: I32 | None = None
    auto_priority: bool = True
    auto_create: bool = True
    idempotency_window_ms: U64 = 120_000
    dedupe_node: bool = True
    lease_ms: U64 = 30_000
    claim_jitter_ms: U64 = 0
    max_deliveries: U64 = 0
    dead_letter: str | None = None
    leases_durable: bool = False

    def __post_init__(self) -> None:
        require_u64(
            ttl_ms=self.ttl_ms,
            cap_records=self.cap_records,
            cap_bytes=self.cap_bytes,
            idempotency_window_ms=self.idempotency_window_ms,
            lease_ms=self.lease_ms,
            claim_jitter_ms=self.claim_jitter_ms,
            max_deliveries=self.max_deliveries,
        )

    def check_for(self, topic: str) -> None:
        """Raise Invalid if the topic can't have this config."""
        if self.dead_letter is None:
            return
        if not is_topic_name(self.dead_letter):
            raise Invalid("dead_letter is not a valid topic name", dead_letter=self.dead_letter)
        require_unreserved(self.dead_letter)
        if self.kind == "queue" and self.dead_letter == topic:
            raise Invalid(
                "a queue can't be its own dead_letter topic", dead_letter=self.dead_letter
            )

    def columns(self) -> dict[str, Any]:
        """Return the values as they are stored: resolved and clamped."""
        return {
            "kind": self.kind,
            "ttl_ms": self.ttl_ms,
            "cap_records": self.cap_records,
            "cap_bytes": self.cap_bytes,
            "discard": self.discard,
            "durability": self.durability
            or str(Durability.FSYNC if self.durable else Durability.DISK),
            "priority": self.priority,
            "auto_priority": self.auto_priority,
            "auto_create": self.auto_create,
            "idempotency_window_ms": self.idempotency_window_ms,
            "dedupe_node": self.dedupe_node,
            "lease_ms": _clamped(self.lease_ms, *LEASE_MS),
            "claim_jitter_ms": _clamped(self.claim_jitter_ms, *CLAIM_JITTER_MS),
            "max_deliveries": self.max_deliveries,
            "dead_letter": self.dead_letter,
            "leases_durable": self.leases_durable,
        }


def of(topic: object, **changes: Any) -> TopicConfig:
    """Return the config of a row of topics, with changes."""
    return TopicConfig(**{**{name: getattr(topic, name) for name in COLUMNS}, **changes})


def echo(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return all 17 members of the config object from a topic's columns."""
    return {
        "type": row["kind"],
        "ttl_ms": int(row["ttl_ms"]),
        "cap_records": int(row["cap_records"]),
        "cap_bytes": int(row["cap_bytes"]),
        "discard": row["discard"],
        "durable": row["durability"] == Durability.FSYNC,
        "durability": row["durability"],
        "priority": row["priority"],
        "auto_priority": row["auto_priority"],
        "auto_create": row["auto_create"],
        "idempotency_window_ms": int(row["idempotency_window_ms"]),
        "dedupe_node": row["dedupe_node"],
        "lease_ms": row["lease_ms"],
        "claim_jitter_ms": row["claim_jitter_ms"],
        "max_deliveries": int(row["max_deliveries"]),
        "dead_letter": row["dead_letter"],
        "leases_durable": row["leases_durable"],
    }


def _clamped(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


# The columns that hold a config.
COLUMNS = tuple(TopicConfig().columns())
