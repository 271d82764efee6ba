"""The ASGI entry point."""

from __future__ import annotations

import os

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gyoza_site.settings")
if not apps.ready:  # `manage.py serve` has set up already, its logging too
    django.setup(set_prefix=False)

from apps.core.asgi import Application

application = Application()
