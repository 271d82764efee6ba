"""The Celery application and the one beat schedule."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import beat_init
from django.conf import settings
from kombu import Queue
from kombu.common import Broadcast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gyoza_site.settings")

app = Celery("gyoza", task_cls="apps.core.outages:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Every worker hears that there is work; which one gets it is decided by the claim.
wake = Broadcast("gyoza.wake", routing_key="wake")
app.conf.task_queues = (Queue("gyoza"), wake)
app.conf.task_routes = {
    "runs.claim_runs": {
        "queue": "gyoza.wake",
        "exchange": "gyoza.wake",
        "routing_key": "wake",
        # A sender that has not declared the exchange takes it for a direct one, and the message reaches nobody.
        "declare": [wake.exchange],
    }
}

app.conf.beat_schedule = {
    "runs.sweep_runs": {"task": "runs.sweep_runs", "schedule": 1.0, "options": {"expires": 1}},
    "topics.trim_records": {
        "task": "topics.trim_records",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "topics.sweep_routers": {
        "task": "topics.sweep_routers",
        "schedule": 1.0,
        "options": {"expires": 1},
    },
    "pipelines.sweep_executions": {
        "task": "pipelines.sweep_executions",
        "schedule": 1.0,
        "options": {"expires": 1},
    },
    "topics.trim_gaps": {"task": "topics.trim_gaps", "schedule": 60.0, "options": {"expires": 60}},
    "storage.sweep_leftovers": {
        "task": "storage.sweep_leftovers",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "access.trim_idempotency": {"task": "access.trim_idempotency", "schedule": 600.0},
}


@beat_init.connect
def say_that_beat_is_up(**_: object) -> None:
    settings.GYOZA_BEAT_MARK.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.GYOZA_BEAT_MARK.touch()
