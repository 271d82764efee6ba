"""One topic as topics v0 describes it, in memory: what the service is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Written(NamedTuple):
    seq: int
    ts: int
    data: Any
    size: int
    tag: str | None
    node: str | None


@dataclass
class Log:
    """A topic instance; times are milliseconds."""

    config: dict[str, Any]
    live: list[Written] = field(default_factory=list)
    head: int = 0
    cap_floor: int = 0
    ttl_floor: int = 0
    keys: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def earliest(self) -> int:
        return self.live[0].seq if self.live else self.head + 1

    @property
    def bytes(self) -> int:
        return sum(record.size for record in self.live)

    def settle(self, now: int) -> None:
        """§8.2 with ★17."""
        ttl, most, room = (self.config[k] for k in ("ttl_ms", "cap_records", "cap_bytes"))
        while ttl and self.live and now - self.live[0].ts > ttl:
            self.ttl_floor = self.live.pop(0).seq
        while self.config["discard"] == "old" and (
            0 < most < len(self.live) or 0 < room < self.bytes
        ):
            self.cap_floor = self.live.pop(0).seq

    def append(self, records: list[dict[str, Any]], key: str | None, now: int) -> Any:
        """§12: return (status, code) of a refusal, else (first, last, deduped)."""
        self.settle(now)
        if key in self.keys and now - self.keys[key][0] <= self.config["idempotency_window_ms"]:
            return *self.keys[key][1:], True
        sizes = [len(record["data"]) + 2 for record in records]
        if self.config["discard"] == "reject":
            most, room = self.config["cap_records"], self.config["cap_bytes"]
            if 0 < most < len(records) or 0 < room < sum(sizes):
                return 400, "record_too_large"
            if 0 < most < len(self.live) + len(records) or 0 < room < self.bytes + sum(sizes):
                return 422, "topic_full"
        first = self.head + 1
        for record, size in zip(records, sizes, strict=True):
            self.head += 1
            place = (self.head, now, record["data"], size, record["tag"], record["node"])
            self.live.append(Written(*place))
        if key is not None:
            self.keys[key] = (now, first, self.head)
        self.settle(now)
        return first, self.head, False

    def delete(self, now: int, *goes: Callable[[Written], bool]) -> int:
        """§14: remove the records for which all of these hold."""
        self.settle(now)
        kept = [record for record in self.live if not all(rule(record) for rule in goes)]
        gone, self.live = len(self.live) - len(kept), kept
        return gone

    def diff(self, after: int, limit: int, nodes: list[str], budget: int, now: int) -> Any:
        """§13, §8.4: return the tombstone, the records and the next cursor."""
        self.settle(now)
        floor, gap = max(self.cap_floor, self.ttl_floor), None
        start = after
        if after > self.head:
            gap, start = (1, self.head, "recreated"), self.earliest - 1
        elif after < floor:
            reached = (self.cap_floor > after, self.ttl_floor > after)
            reason = {(True, True): "mixed", (True, False): "cap", (False, True): "ttl"}[reached]
            gap = (after + 1, floor, reason)
        found: list[Written] = []
        for record in self.live:
            if record.seq <= start or (self.config["dedupe_node"] and record.node in nodes):
                continue
            if found and sum(r.size for r in found) + record.size > budget:
                return gap, found, record.seq - 1
            found.append(record)
            if len(found) == limit:
                return gap, found, record.seq
        return gap, found, self.head
