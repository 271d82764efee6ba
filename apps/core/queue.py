"""Nudges: Celery messages that say "there is work", never which. The truth is a row, and a sweep finds it."""

from __future__ import annotations

import logging
from functools import partial

from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError, OperationalError

JSONScalar = str | int | float | bool | None

log = logging.getLogger(__name__)


def enqueue_on_commit(task: str, /, **kwargs: JSONScalar) -> None:
    """Send a Celery task by name once the surrounding transaction has committed.

    The message is only a nudge: the row that asks for the work is already there, and a sweep finds rows whose
    nudge was lost. So a broker failure is logged here and not raised.
    """
    transaction.on_commit(partial(_send, task, kwargs), robust=True)


def _send(task: str, kwargs: dict[str, JSONScalar]) -> None:
    try:
        current_app.send_task(task, kwargs=kwargs, ignore_result=True)
    except (KombuError, OperationalError, OSError) as exc:
        log.warning("nudge %s was not sent, a sweep will find its row: %s", task, exc)
