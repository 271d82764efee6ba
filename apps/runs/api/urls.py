from __future__ import annotations

from django.urls import path

from apps.runs.api import views, worker_views

app_name = "runs"

urlpatterns = [
    path("health", views.HealthView.as_view(), name="health"),
    path(
        "definitions/<str:name>/runs",
        views.DefinitionRunListView.as_view(),
        name="definition-run-list",
    ),
    path("runs", views.RunListView.as_view(), name="run-list"),
    path("runs/batch", views.RunBatchView.as_view(), name="run-batch"),
    path("runs/<uuid:run_id>", views.RunDetailView.as_view(), name="run-detail"),
    path("runs/<uuid:run_id>/events", views.RunEventListView.as_view(), name="run-event-list"),
    path(
        "runs/<uuid:run_id>/attempts", views.RunAttemptListView.as_view(), name="run-attempt-list"
    ),
    path(
        "runs/<uuid:run_id>/attempts/<int:number>",
        views.RunAttemptDetailView.as_view(),
        name="run-attempt-detail",
    ),
    path("runs/<uuid:run_id>/cancel", views.RunCancelView.as_view(), name="run-cancel"),
    path("runs/<uuid:run_id>/retry", views.RunRetryView.as_view(), name="run-retry"),
    path("workers", worker_views.WorkerListView.as_view(), name="worker-list"),
    path(
        "workers/<str:worker_id>/heartbeat",
        worker_views.WorkerHeartbeatView.as_view(),
        name="worker-heartbeat",
    ),
    path(
        "workers/<str:worker_id>/claim", worker_views.WorkerClaimView.as_view(), name="worker-claim"
    ),
]
