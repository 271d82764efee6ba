from __future__ import annotations

from celery import shared_task

from apps.topics.disk import sweep


@shared_task(name="topics.trim_records")
def trim_records() -> None:
    """Free the disk of what nobody can read any more."""
    sweep.trim_records()
