from __future__ import annotations

from django.urls import path

from apps.console.executions import deeds, lists, views
from apps.console.home import OverviewView
from apps.console.page import NothingHere
from apps.console.pipelines import deeds as pipeline_deeds
from apps.console.pipelines import views as pipeline_views
from apps.console.runs import deeds as run_deeds
from apps.console.runs import lists as run_lists
from apps.console.runs import views as run_views
from apps.console.runs import workers
from apps.console.topics import lists as topic_lists
from apps.console.topics import views as topic_views

app_name = "console"

urlpatterns = [
    path("", OverviewView.as_view(), name="home"),
    path("executions", lists.ExecutionListView.as_view(), name="execution-list"),
    path("executions/<str:execution>", views.ExecutionView.as_view(), name="execution"),
    path("executions/<str:execution>/files", views.FilesView.as_view(), name="execution-files"),
    path("executions/<str:execution>/cancel", deeds.CancelView.as_view(), name="execution-cancel"),
    path("executions/<str:execution>/retry", deeds.RetryView.as_view(), name="execution-retry"),
    path("executions/<str:execution>/replay", deeds.ReplayView.as_view(), name="execution-replay"),
    path("executions/<str:execution>/answer", deeds.AnswerView.as_view(), name="execution-answer"),
    path("runs", run_lists.RunListView.as_view(), name="run-list"),
    path("runs/<uuid:run_id>", run_views.RunView.as_view(), name="run"),
    path("runs/<uuid:run_id>/cancel", run_deeds.CancelView.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/retry", run_deeds.RetryView.as_view(), name="run-retry"),
    path("pipelines", pipeline_views.PipelineListView.as_view(), name="pipeline-list"),
    path("pipelines/<str:pipeline_id>", pipeline_views.PipelineView.as_view(), name="pipeline"),
    path("pipelines/<str:pipeline_id>/run", pipeline_deeds.RunView.as_view(), name="pipeline-run"),
    path(
        "pipelines/<str:pipeline_id>/trigger/redrive",
        pipeline_deeds.RedriveView.as_view(),
        name="pipeline-redrive",
    ),
    path(
        "pipelines/<str:pipeline_id>/<path:deed>",
        pipeline_deeds.StarterView.as_view(),
        name="pipeline-deed",
    ),
    path("workers", workers.WorkerListView.as_view(), name="worker-list"),
    path("workers/drain", workers.DrainView.as_view(), name="worker-drain"),
    path("workers/resume", workers.ResumeView.as_view(), name="worker-resume"),
    path("topics", topic_lists.TopicListView.as_view(), name="topic-list"),
    path("topics/<path:topic>", topic_views.TopicView.as_view(), name="topic"),
    path("<path:rest>", NothingHere.as_view()),
]
