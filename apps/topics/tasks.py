from __future__ import annotations

from celery import shared_task

from apps.core.queue import answer_nudge
from apps.topics.disk import sweep
from apps.topics.routers import forwarder, gaps


@shared_task(name="topics.trim_records")
def trim_records() -> None:
    """Free the disk of what nobody can read any more."""
    sweep.trim_records()


@shared_task(name="topics.sweep_routers")
def sweep_routers() -> None:
    """Copy what routers owe; also what appends outside of a web process call for."""
    answer_nudge("topics.sweep_routers")
    forwarder.sweep()


@shared_task(name="topics.trim_gaps")
def trim_gaps() -> None:
    """Forget gaps that no live record is left below."""
    gaps.trim_gaps()
