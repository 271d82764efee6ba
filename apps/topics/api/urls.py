from __future__ import annotations

from django.urls import path

from apps.core.dataplane import NothingView
from apps.topics.api import views, watch

app_name = "topics"
urlpatterns = [
    path("v0/topics", views.TopicListView.as_view(), name="topic-list"),
    path("v0/topics/<str:topic>", views.TopicView.as_view(), name="topic"),
    path("v0/topics/<str:topic>/diff", views.DiffView.as_view(), name="topic-diff"),
    path("v0/topics/<str:topic>/delete", views.DeleteRecordsView.as_view(), name="topic-delete"),
    path("v0/topics/<str:topic>/<path:rest>", views.NothingBelowTopicView.as_view()),
    path("v0/watch", watch.WatchView.as_view(), name="watch"),
    path("v0/watch/<str:wid>", watch.WatchStreamView.as_view(), name="watch-stream"),
    path("v0", NothingView.as_view()),
    path("v0/<path:rest>", NothingView.as_view()),
    path("v0/", NothingView.as_view()),
]
