"""The named values of the log: kinds of topics, records and jobs, what a full topic does, how durable it is."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TopicKind(StrEnum):
    """Fixed at creation (topics v0 §6 `type`)."""

    LOG = "log"
    QUEUE = "queue"


class Discard(StrEnum):
    """What a full topic does to a write (§8.3)."""

    OLD = "old"
    REJECT = "reject"


class Durability(StrEnum):
    """When a write is acknowledged (§9). Only `fsync` waits for the disk."""

    EPHEMERAL = "ephemeral"
    MEMORY = "memory"
    DISK = "disk"
    FSYNC = "fsync"


class Guarantee(StrEnum):
    """What a router promises (§16.5). Both copy once; `exactly_once` also stamps the copies."""

    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"


class RecordKind(IntEnum):
    """Who wrote a record. Invisible under /v0; `GET /events` shows run events unwrapped."""

    MESSAGE = 0
    RUN_EVENT = 1


class JobState(IntEnum):
    """Where a delivered job is (topics v0 §18.1). Who moves it on: claims, acks, nacks, and time."""

    RETURNED = 0  # nacked, released or expired: the next claim takes it before any fresh one
    LEASED = 1  # someone's until it is due
    DELAYED = 2  # nacked with a delay; nobody's until it is due
    GONE = 3  # leased, but its record was deleted or evicted (§18.8): only the lease lingers


HELD = frozenset({JobState.LEASED, JobState.GONE})
