"""What answers of /v0 have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from apps.core.dataplane import respond

if TYPE_CHECKING:
    from apps.core.slim import Answer


def range_of(first: int, last: int) -> list[int]:
    """Return first … last."""
    return list(range(first, last + 1))


def ms_since(started: float) -> float:
    """Return the milliseconds since a reading of the performance counter."""
    return (time.perf_counter() - started) * 1000


def finished(answer: dict[str, object], started: float, status: int = 200) -> Answer:
    """Answer with how long it took (§2.7)."""
    performance = {"server_total_ms": round(ms_since(started), 3)}
    return respond(msgspec.json.encode({**answer, "performance": performance}), status)
