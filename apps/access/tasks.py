from __future__ import annotations

from celery import shared_task

from apps.access import services


@shared_task(name="access.trim_idempotency")
def trim_idempotency() -> None:
    """Forget the answers of yesterday's Idempotency-Keys."""
    services.trim_idempotency()
