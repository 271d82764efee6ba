"""What the group commit of this process has done since it started: the `wal` figures of topics v0 §20.

The log-writer there is one file; here it is Postgres. So a frame is an append, a batch a transaction of the group commit,
and an fsync a transaction that waited for the disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Upper bounds of the histogram, in microseconds (§20).
BOUNDS_US = (50, 100, 250, 500, 1_000, 5_000, 10_000, 50_000, 100_000)


@dataclass(slots=True)
class Commits:
    """Counters that only rise, but for the depth."""

    frames: int = 0
    batches: int = 0
    fsyncs: int = 0
    bytes_written: int = 0
    submit_full: int = 0
    queue_depth: int = 0
    queue_depth_peak: int = 0
    fsync_micros: int = 0
    # By bucket, the last one for what is beyond every bound; not cumulative.
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))

    def waiting(self, change: int) -> None:
        """Note that so many appends more wait for their transaction."""
        self.queue_depth += change
        self.queue_depth_peak = max(self.queue_depth_peak, self.queue_depth)

    def committed(self, *, appends: int, size: int, waited_ms: float | None) -> None:
        """Note a transaction, and how long it waited for the disk, if it did."""
        self.frames += appends
        self.batches += 1
        self.bytes_written += size
        if waited_ms is None:
            return
        micros = int(waited_ms * 1000)
        self.fsyncs += 1
        self.fsync_micros += micros
        self.latencies[sum(micros > bound for bound in BOUNDS_US)] += 1


here = Commits()
