from __future__ import annotations

from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "apps.runs"
    label = "runs"

    def ready(self) -> None:
        from apps.runs import queries
        from apps.storage import services as storage

        storage.register_runs(executions_of=queries.executions_of)
