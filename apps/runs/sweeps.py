"""What finds the rows whose nudge was lost, and the runs whose worker was (runs.md §4)."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.conf import settings
from django.db.models import Q

from apps.core import clock, sql
from apps.core.queue import nudge_on_commit
from apps.runs import scheduling, transitions
from apps.runs.models import Run
from apps.runs.states import HOLDS_RESOURCES, RunState

log = logging.getLogger(__name__)

SWEEP = "runs"
# A pull worker learns of a cancel with its next heartbeat and then has the grace; this much more and it is not obeying.
OBEDIENCE_SECONDS = 20


def sweep_runs() -> bool:
    """Take back the runs of lost workers, end overdue ones, and wake the workers if anything is due.

    One process at a time does it, at most every second; returns whether this one did. When nobody has swept for a
    while (the whole system slept, or the clock was set), heartbeats may be as old as the last sweep: nobody is declared
    lost before every worker has had the time for one.
    """
    lost_seconds = settings.GYOZA_LOST_SECONDS
    rows = sql.run("runs/take_sweep", name=SWEEP, every=0.9, pause=lost_seconds / 2).rows
    if not rows:
        return False
    if rows[0]["steady_seconds"] >= lost_seconds:
        for worker_id in scheduling.lose_workers():
            log.warning("worker %s was lost, its runs were taken back", worker_id)
    _end_overdue_runs()
    _wake_if_due()
    return True


def _end_overdue_runs() -> None:
    now = clock.now()
    grace = timedelta(seconds=settings.GYOZA_CANCEL_GRACE_SECONDS)
    rows = sql.run(
        "runs/overdue_runs",
        cancel_before=now - grace - timedelta(seconds=OBEDIENCE_SECONDS),
        timeout_before=now - grace,
    ).rows
    if not rows:
        return
    with transitions.batch() as moves:
        lives = moves.lock([row["id"] for row in rows])
        for row in rows:
            live = lives.get(row["id"])
            if live is None or live.state not in HOLDS_RESOURCES:
                continue
            if row["is_cancel"]:
                reason = f"{live.cancel_reason}; its worker did not answer"
                transitions.cancel(moves, live, reason=reason)
            elif live.state == RunState.RUNNING:
                transitions.fail(moves, live, error="timed out; its worker did not end it")


def _wake_if_due() -> None:
    is_due = Q(scheduled_at__isnull=True) | Q(scheduled_at__lte=clock.now())
    if Run.objects.filter(is_due, state=RunState.PENDING).exists():
        nudge_on_commit(scheduling.CLAIM_TASK)
