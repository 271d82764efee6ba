"""How long a client wants to be told of executions (pipelines-storage.md §5): until they end, or the time does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from apps.core.api.parameters import Parameters

SECONDS, SECONDS_MIN, SECONDS_MAX = 300.0, 1.0, 3600.0


class Duration(NamedTuple):
    """After how many seconds a stream ends, whatever the traffic, and whether it goes on when what it follows has ended."""

    seconds: float
    keep_open: bool


def read_duration(query: Parameters) -> Duration:
    """Read `timeout` and `keep_open`; complaints stay with `query`."""
    return Duration(
        seconds=query.number("timeout", default=SECONDS, low=SECONDS_MIN, high=SECONDS_MAX),
        keep_open=query.boolean("keep_open"),
    )
