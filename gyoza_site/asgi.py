"""The ASGI entry point."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gyoza_site.settings")
django.setup(set_prefix=False)

from apps.core.asgi import Application  # noqa: E402 - Django must be set up first

application = Application()
