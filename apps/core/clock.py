"""The time. Tests move it with time-machine; leases are judged by Postgres's own clock instead."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Format a moment as RFC 3339 in UTC with microseconds and `Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def milliseconds(moment: datetime) -> int:
    """Return whole milliseconds since the Unix epoch."""
    return int(moment.timestamp() * 1000)


def rfc3339_of_milliseconds(milliseconds: int) -> str:
    """Format milliseconds since the Unix epoch as RFC 3339 in UTC."""
    return rfc3339(datetime.fromtimestamp(milliseconds / 1000, UTC))
