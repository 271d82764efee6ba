"""The table of contents of all URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from apps.console.page import RootView
from apps.core.api.slashes import slashed
from apps.pipelines import streams as pipelines
from apps.runs import streams as runs
from apps.storage import streams as storage
from gyoza_site.metrics import MetricsView

urlpatterns: list[URLPattern | URLResolver] = [
    # First: nearly each of its paths is new, and looked up here (`core.asgi` remembers those that come again).
    path("", include("apps.storage.api.urls")),
    path("", RootView.as_view(), name="root"),
    path("console", RootView.as_view()),
    path("console/", include("apps.console.urls")),
    path("admin/", admin.site.urls),
    path("", include("apps.topics.api.urls")),
    path("", include("apps.definitions.api.urls")),
    path("", include("apps.runs.api.urls")),
    path("", include("apps.pipelines.api.urls")),
    slashed(
        "api/v1/executions/<str:execution>/events",
        pipelines.ExecutionEventsView.as_view(),
        name="execution-events",
    ),
    slashed("api/v1/storage/events", storage.StorageEventsView.as_view(), name="storage-events"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("events", runs.FeedView.as_view(), name="feed"),
    path("runs/<uuid:run_id>/stream", runs.RunStreamView.as_view(), name="run-stream"),
    path("runs/<uuid:run_id>/logs", runs.RunLogsView.as_view(), name="run-logs"),
    path("", include("gyoza_site.openapi")),
]

handler400 = "apps.core.api.handlers.bad_request"
handler403 = "apps.core.api.handlers.permission_denied"
handler404 = "apps.core.api.handlers.not_found"
handler500 = "apps.core.api.handlers.server_error"
