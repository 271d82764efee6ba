from __future__ import annotations

from django.apps import AppConfig


class StorageConfig(AppConfig):
    name = "apps.storage"
    label = "storage"

    def ready(self) -> None:
        from apps.core import lifespan
        from apps.storage import incoming

        # Workers sweep too, but they may be on other machines.
        lifespan.on_open(incoming.begin)
