"""What Prometheus is told of executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core import sql
from apps.core.exposition import gauge, labelled

if TYPE_CHECKING:
    from apps.core.exposition import Series

# How many of a kind are counted: whoever has as many under way need not know how many more.
MOST_COUNTED = 100_000


async def series() -> list[Series]:
    """Return how many executions have not ended, by status. Those that have are too many."""
    rows = (await sql.run_async("pipelines/count_executions", most=MOST_COUNTED)).rows
    return [
        labelled(
            "gyoza_executions",
            f"Executions that have not ended; {MOST_COUNTED} of a status at most.",
            "status",
            {row["status"]: row["executions"] for row in rows},
        ),
        gauge(
            "gyoza_executions_queued",
            "Executions among those running that wait for others of their pipeline to end.",
            sum(row["queued"] for row in rows),
        ),
    ]
