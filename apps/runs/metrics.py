"""What Prometheus is told of runs and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core import clock, sql
from apps.core.exposition import gauge, labelled
from apps.runs.states import WorkerState

if TYPE_CHECKING:
    from apps.core.exposition import Series

# How many of a kind are counted: whoever has as many waiting need not know how many more.
MOST_COUNTED = 100_000
_PRESENT = (WorkerState.READY, WorkerState.DRAINING)


async def series() -> list[Series]:
    """Return how many runs have not ended, by state, and how many workers there are. Those that have ended are too many."""
    found = await sql.run_async("runs/count_runs", now=clock.now(), most=MOST_COUNTED)
    runs = {row["state"]: row["runs"] for row in found.rows}
    delayed = runs.pop("delayed")
    found = await sql.run_async("runs/count_workers")
    workers = {row["state"]: row["workers"] for row in found.rows}
    return [
        labelled(
            "gyoza_runs",
            f"Runs that have not ended; {MOST_COUNTED} of a state at most.",
            "state",
            runs,
        ),
        gauge(
            "gyoza_runs_delayed",
            f"Runs among those PENDING that are not due yet; {MOST_COUNTED} at most.",
            delayed,
        ),
        labelled(
            "gyoza_workers",
            "Workers that are there.",
            "state",
            {str(state): workers.get(state, 0) for state in _PRESENT},
        ),
    ]
