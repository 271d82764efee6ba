"""Collections are written with a slash at the end and items without; each answers both ways."""

from __future__ import annotations

from apps.core.api.slashes import slashed
from apps.pipelines.api import execution_views as executions
from apps.pipelines.api import pipeline_views as pipelines
from apps.pipelines.api import schedule_views as schedules
from apps.pipelines.api import trigger_views as triggers

app_name = "pipelines"

PIPELINE = "api/v1/pipelines/<str:pipeline_id>"
EVENT = "api/v1/events/<str:pipeline_id>"
EXECUTION = "api/v1/executions/<str:execution>"

urlpatterns = [
    slashed("api/v1/pipelines/", pipelines.PipelineListView.as_view(), name="pipeline-list"),
    slashed(
        "api/v1/pipelines/validate",
        pipelines.PipelineValidateView.as_view(),
        name="pipeline-validate",
    ),
    slashed(PIPELINE, pipelines.PipelineDetailView.as_view(), name="pipeline-detail"),
    slashed(
        f"{PIPELINE}/versions",
        pipelines.PipelineVersionListView.as_view(),
        name="pipeline-version-list",
    ),
    slashed(
        f"{PIPELINE}/validate",
        pipelines.PipelineRevalidateView.as_view(),
        name="pipeline-revalidate",
    ),
    slashed(f"{PIPELINE}/run", pipelines.PipelineRunView.as_view(), name="pipeline-run"),
    slashed(f"{PIPELINE}/schedule", schedules.ScheduleView.as_view(), name="schedule-detail"),
    slashed(
        f"{PIPELINE}/schedule/pause", schedules.SchedulePauseView.as_view(), name="schedule-pause"
    ),
    slashed(
        f"{PIPELINE}/schedule/resume",
        schedules.ScheduleResumeView.as_view(),
        name="schedule-resume",
    ),
    slashed("api/v1/events/", triggers.TriggerListView.as_view(), name="trigger-list"),
    slashed(EVENT, triggers.TriggerView.as_view(), name="trigger"),
    slashed(f"{EVENT}/status", triggers.TriggerStatusView.as_view(), name="trigger-status"),
    slashed(f"{EVENT}/pause", triggers.TriggerPauseView.as_view(), name="trigger-pause"),
    slashed(f"{EVENT}/resume", triggers.TriggerResumeView.as_view(), name="trigger-resume"),
    slashed(f"{EVENT}/test", triggers.TriggerTestView.as_view(), name="trigger-test"),
    slashed(
        f"{EVENT}/dead-letters", triggers.DeadLetterListView.as_view(), name="dead-letter-list"
    ),
    slashed(f"{EVENT}/redrive", triggers.TriggerRedriveView.as_view(), name="trigger-redrive"),
    slashed("api/v1/executions/", executions.ExecutionListView.as_view(), name="execution-list"),
    slashed(EXECUTION, executions.ExecutionDetailView.as_view(), name="execution-detail"),
    slashed(
        f"{EXECUTION}/cancel", executions.ExecutionCancelView.as_view(), name="execution-cancel"
    ),
    slashed(f"{EXECUTION}/retry", executions.ExecutionRetryView.as_view(), name="execution-retry"),
    slashed(
        f"{EXECUTION}/replay", executions.ExecutionReplayView.as_view(), name="execution-replay"
    ),
    slashed(f"{EXECUTION}/dag", executions.ExecutionDagView.as_view(), name="execution-dag"),
    slashed(
        f"{EXECUTION}/stages/<path:stage>/approve",
        executions.StageApproveView.as_view(),
        name="stage-approve",
    ),
]
