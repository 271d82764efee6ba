"""The column that shows a state, in its colour."""

from __future__ import annotations

from typing import Any

from unfold.decorators import display

from apps.core.adminsite import ReadOnlyAdmin
from apps.runs.states import RunState, WorkerState

LABELS = {
    RunState.RUNNING: "info",
    RunState.COMPLETED: "success",
    RunState.FAILED: "danger",
    RunState.CANCELLED: "warning",
    WorkerState.READY: "success",
    WorkerState.DRAINING: "warning",
    WorkerState.LOST: "danger",
}


class StateAdmin(ReadOnlyAdmin):
    """Rows that have a state."""

    @display(description="state", ordering="state", label=LABELS)  # type: ignore[untyped-decorator]
    def state_label(self, row: Any) -> str:
        return str(row.state)
