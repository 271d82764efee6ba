"""How much is written to a topic, as bars. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apps.topics.pages import Part, Throughput

# As SVG draws it, before it is stretched.
STEP, WIDTH, HEIGHT = 20, 18, 1000
# What is hardly anything is still to be seen.
_LEAST = 20


class Bar(NamedTuple):
    """What was written in one part: a rectangle; one of which nobody knows is as high as the chart."""

    x: int
    y: int
    width: int
    height: int
    began_ms: int
    value: float | None


class Chart(NamedTuple):
    """One of the figures over time."""

    unit: str
    width: int
    height: int
    bars: list[Bar]
    most: float
    mean: float
    latest: float | None


def charts(found: Throughput) -> list[Chart]:
    """Return the charts of a topic: records, and bytes, each per second."""
    return [
        _chart(found, "records", lambda part: part.records),
        _chart(found, "bytes", lambda part: part.bytes),
    ]


def _chart(found: Throughput, unit: str, value_of: Callable[[Part], float | None]) -> Chart:
    values = [value_of(part) for part in found.parts]
    known = [value for value in values if value is not None]
    most = max(known, default=0.0)
    return Chart(
        unit=unit,
        width=STEP * len(values),
        height=HEIGHT,
        bars=bars(values, [part.began_ms for part in found.parts], most=most),
        most=most,
        mean=sum(known) / len(known) if known else 0.0,
        latest=value_of(found.latest),
    )


def bars(values: Sequence[float | None], begins: Sequence[int], *, most: float) -> list[Bar]:
    """Return a bar for each value, side by side; nothing is drawn for what is zero."""
    found = []
    for place, (value, began_ms) in enumerate(zip(values, begins, strict=True)):
        height = HEIGHT
        if value is not None:
            height = max(round(value / most * HEIGHT), _LEAST) if value > 0 else 0
        found.append(Bar(place * STEP, HEIGHT - height, WIDTH, height, began_ms, value))
    return found
