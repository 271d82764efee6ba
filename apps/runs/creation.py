"""New runs: from nothing to PENDING."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.core import jsonb, sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.runs.models import Run

_COLUMNS = (
    "id", "priority", "executor", "image", "command", "python", "env", "inputs", "output_specs", "op_definition",
    "op_version", "cpu", "ram_mb", "vram_mb", "gpu_id", "tags", "retry_policy", "topic", "attributes", "timeout_s",
    "metadata", "execution_id", "step", "stage", "created_by", "created_at", "updated_at", "queued_at", "scheduled_at",
)  # fmt: skip


def insert_runs(runs: Sequence[Run]) -> None:
    """Store runs that have just been made, all of them PENDING, in the surrounding transaction."""
    rows = [{column: getattr(run, column) for column in _COLUMNS} for run in runs]
    sql.run_bound("runs/insert_runs", runs=jsonb.encode(rows))
    for run in runs:
        run._state.adding = False
