from __future__ import annotations

from django.apps import AppConfig


class StackConfig(AppConfig):
    name = "apps.stack"
    label = "stack"
