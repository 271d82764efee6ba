from __future__ import annotations

from django.urls import path

from apps.topics.queues.api import dead_letters, views

urlpatterns = [
    path("v0/topics/<str:topic>/claim", views.ClaimView.as_view(), name="queue-claim"),
    path("v0/topics/<str:topic>/ack", views.AckView.as_view(), name="queue-ack"),
    path("v0/topics/<str:topic>/nack", views.NackView.as_view(), name="queue-nack"),
    path("v0/topics/<str:topic>/extend", views.ExtendView.as_view(), name="queue-extend"),
    path("v0/topics/<str:topic>/work", views.WorkView.as_view(), name="queue-work"),
    path("v0/topics/<str:topic>/dead-letters", dead_letters.DeadLettersView.as_view()),
    path("v0/topics/<str:topic>/dead-letters/redrive", dead_letters.RedriveView.as_view()),
]
