"""When the stages of an execution ran: bars on one axis. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# The axis, from the execution's beginning to its end or to now, in parts as SVG draws them.
WIDTH = 1000
# What took no time is still to be seen.
LEAST = 4


class Bar(NamedTuple):
    """Where a bar begins, and how long it is."""

    x: int
    width: int


def bars(
    spans: Sequence[tuple[datetime | None, datetime | None]], *, began: datetime, ended: datetime
) -> list[Bar | None]:
    """Return a bar for each span (start, end); one without an end goes on, one without a start has none."""
    whole = max((ended - began).total_seconds(), 0.001)

    def place(moment: datetime) -> int:
        share = (moment - began).total_seconds() / whole
        return round(min(max(share, 0), 1) * WIDTH)

    found: list[Bar | None] = []
    for start, end in spans:
        if start is None:
            found.append(None)
            continue
        x = min(place(start), WIDTH - LEAST)
        found.append(Bar(x, max(place(end or ended) - x, LEAST)))
    return found
