"""The colours of states."""

from __future__ import annotations

from apps.pipelines.states import ExecutionStatus, TriggerState

EXECUTIONS: dict[str, str] = {
    ExecutionStatus.RUNNING: "info",
    ExecutionStatus.COMPLETED: "success",
    ExecutionStatus.FAILED: "danger",
    ExecutionStatus.CANCELLED: "warning",
    ExecutionStatus.INTERRUPTED: "danger",
}
# Finer, as `wire.phase` tells it.
PHASES: dict[str, str] = {
    **EXECUTIONS,
    "queued": "warning",
    "retrying": "warning",
    "cancelling": "warning",
}
TRIGGERS = {
    TriggerState.STARTING: "info",
    TriggerState.LISTENING: "success",
    TriggerState.PAUSED: "warning",
    TriggerState.DEGRADED: "danger",
    TriggerState.FAILED: "danger",
}
# Of a schedule, which is one of these or none.
SCHEDULED, PAUSED = "scheduled", "paused"
SCHEDULES = {SCHEDULED: "success", PAUSED: "warning"}
