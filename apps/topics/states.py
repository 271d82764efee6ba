"""The named values of the log: kinds of topics, what a full one does, how durable it is, kinds of records."""

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
