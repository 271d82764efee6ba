from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"
    label = "core"

    def ready(self) -> None:
        # Django copies psycopg's adapters when it first connects: whatever registers later is not known there.
        import_module("apps.core.pgarray")
