from __future__ import annotations

from django.urls import include, path

from apps.core.dataplane import NothingView
from apps.topics.api import probes, reads, sockets, views, watch
from apps.topics.routers.api import views as routers

app_name = "topics"
urlpatterns = [
    path("v0/topics", views.TopicListView.as_view(), name="topic-list"),
    path("v0/topics/<str:topic>", views.TopicView.as_view(), name="topic"),
    path("v0/topics/<str:topic>/diff", reads.DiffView.as_view(), name="topic-diff"),
    path("v0/topics/<str:topic>/delete", views.DeleteRecordsView.as_view(), name="topic-delete"),
    path("v0/health", probes.HealthView.as_view(), name="health"),
    path("healthz", probes.HealthView.as_view()),
    path("v0/ready", probes.ReadyView.as_view(), name="ready"),
    path("readyz", probes.ReadyView.as_view()),
    path("v0/metrics", probes.MetricsView.as_view(), name="metrics"),
    path("", include("apps.topics.queues.api.urls")),
    path("v0/topics/<str:topic>/<path:rest>", views.NothingBelowTopicView.as_view()),
    path("v0/routers", routers.RouterListView.as_view(), name="router-list"),
    path("v0/routers/<str:router>", routers.RouterView.as_view(), name="router"),
    path("v0/watch", watch.WatchView.as_view(), name="watch"),
    path("v0/watch/<str:wid>", watch.WatchStreamView.as_view(), name="watch-stream"),
    path("v0/ws", sockets.SocketView.as_view(), name="socket"),
    path("v0", NothingView.as_view()),
    path("v0/<path:rest>", NothingView.as_view()),
    path("v0/", NothingView.as_view()),
]
