"""The composition root. Celery's application is made with it, so that every process sends nudges to our broker."""

from __future__ import annotations

from gyoza_site.celery import app as celery_app

__all__ = ["celery_app"]
