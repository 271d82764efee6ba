"""The colours of states."""

from __future__ import annotations

from apps.pipelines.states import ExecutionStatus, TriggerState

EXECUTIONS = {
    ExecutionStatus.RUNNING: "info",
    ExecutionStatus.COMPLETED: "success",
    ExecutionStatus.FAILED: "danger",
    ExecutionStatus.CANCELLED: "warning",
    ExecutionStatus.INTERRUPTED: "danger",
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
