from __future__ import annotations

from django.apps import AppConfig

from apps.topics.appending import listeners
from apps.topics.routers import forwarder


class TopicsConfig(AppConfig):
    name = "apps.topics"
    label = "topics"

    def ready(self) -> None:
        listeners.register(forwarder.LISTENER)
