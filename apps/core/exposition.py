"""Metrics in Prometheus' text format 0.0.4. Pure.

By hand, because the client library renames counters that don't end in `_total`, and topics v0 §20 has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, with the labels that tell it from its siblings."""

    value: float
    labels: Mapping[str, str] | None = None
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """All samples of one name."""

    name: str
    kind: str
    meaning: str
    samples: Sequence[Sample]


def gauge(name: str, meaning: str, value: float) -> Series:
    """Make a series of one number that goes up and down."""
    return Series(name, "gauge", meaning, [Sample(value)])


def counter(name: str, meaning: str, value: float) -> Series:
    """Make a series of one number that only rises."""
    return Series(name, "counter", meaning, [Sample(value)])


def labelled(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Series:
    """Make a gauge with a number per value of one label."""
    samples = [Sample(value, {label: text}) for text, value in values.items()]
    return Series(name, "gauge", meaning, samples)


def histogram(
    name: str, meaning: str, *, bounds: Sequence[int], buckets: Sequence[int], total: float
) -> Series:
    """Make a histogram of counts per bucket, one bucket more than there are bounds."""
    samples, below = [], 0
    for bound, count in zip((*map(str, bounds), "+Inf"), buckets, strict=True):
        below += count
        samples.append(Sample(below, {"le": bound}, "_bucket"))
    samples += [Sample(total, suffix="_sum"), Sample(below, suffix="_count")]
    return Series(name, "histogram", meaning, samples)


def render(every: Iterable[Series]) -> bytes:
    """Write series as text."""
    lines: list[str] = []
    for series in every:
        lines += (f"# HELP {series.name} {series.meaning}", f"# TYPE {series.name} {series.kind}")
        lines += [
            f"{series.name}{sample.suffix}{_labels(sample.labels)} {sample.value}"
            for sample in series.samples
        ]
    return ("\n".join(lines) + "\n").encode()


def _labels(labels: Mapping[str, str] | None) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{text.translate(_ESCAPED)}"' for name, text in labels.items())
    return f"{{{pairs}}}"
