from __future__ import annotations

from celery import shared_task

from apps.storage import sweeps


@shared_task(name="storage.sweep_leftovers")
def sweep_leftovers() -> None:
    """Remove what writes have left behind, and what has been kept for long enough."""
    sweeps.sweep()
