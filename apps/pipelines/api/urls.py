"""Collections are written with a trailing slash and items without; each form answers both ways (§ intro)."""

from __future__ import annotations

from django.urls import re_path

from apps.pipelines.api import execution_views as executions
from apps.pipelines.api import pipeline_views as pipelines

app_name = "pipelines"

PIPELINE = r"^api/v1/pipelines/(?P<pipeline_id>[^/]+)"
EXECUTION = r"^api/v1/executions/(?P<execution>[^/]+)"

urlpatterns = [
    re_path(r"^api/v1/pipelines/?$", pipelines.PipelineListView.as_view(), name="pipeline-list"),
    re_path(
        r"^api/v1/pipelines/validate/?$",
        pipelines.PipelineValidateView.as_view(),
        name="pipeline-validate",
    ),
    re_path(rf"{PIPELINE}/?$", pipelines.PipelineDetailView.as_view(), name="pipeline-detail"),
    re_path(
        rf"{PIPELINE}/versions/?$",
        pipelines.PipelineVersionListView.as_view(),
        name="pipeline-version-list",
    ),
    re_path(
        rf"{PIPELINE}/validate/?$",
        pipelines.PipelineRevalidateView.as_view(),
        name="pipeline-revalidate",
    ),
    re_path(rf"{PIPELINE}/run/?$", pipelines.PipelineRunView.as_view(), name="pipeline-run"),
    re_path(
        r"^api/v1/executions/?$", executions.ExecutionListView.as_view(), name="execution-list"
    ),
    re_path(rf"{EXECUTION}/?$", executions.ExecutionDetailView.as_view(), name="execution-detail"),
    re_path(
        rf"{EXECUTION}/cancel/?$", executions.ExecutionCancelView.as_view(), name="execution-cancel"
    ),
    re_path(
        rf"{EXECUTION}/retry/?$", executions.ExecutionRetryView.as_view(), name="execution-retry"
    ),
    re_path(
        rf"{EXECUTION}/replay/?$", executions.ExecutionReplayView.as_view(), name="execution-replay"
    ),
    re_path(rf"{EXECUTION}/dag/?$", executions.ExecutionDagView.as_view(), name="execution-dag"),
    re_path(
        rf"{EXECUTION}/stages/(?P<stage>.+)/approve/?$",
        executions.StageApproveView.as_view(),
        name="stage-approve",
    ),
]
