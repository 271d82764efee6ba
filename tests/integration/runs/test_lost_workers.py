"""When a worker counts as lost (runs.md §4), whatever clocks and sleepers do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from apps.core import clock
from apps.runs import sweeps
from apps.runs.models import Sweep, Worker
from apps.runs.states import WorkerState
from tests.factories import make_run, make_worker

if TYPE_CHECKING:
    from datetime import datetime

pytestmark = pytest.mark.django_db


# A server that has just started judges nobody for GYOZA_LOST_SECONDS, which are made short here.
SHORT_SECONDS = 2
AGED = """
SELECT pg_sleep(greatest(0, %s + 0.05 - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())))
"""


@pytest.fixture(autouse=True)
def _aged_server(db, settings):
    """The tests' Postgres, which may have been started this very second, old enough to judge."""
    settings.GYOZA_LOST_SECONDS = SHORT_SECONDS
    with connection.cursor() as cursor:
        cursor.execute(AGED, [SHORT_SECONDS])


def ago(seconds: float) -> datetime:
    return clock.now() - timedelta(seconds=seconds)


def swept(*, last: float, steady: float) -> None:
    """Leave the traces of sweeps: the last so many seconds ago, without a pause for so many."""
    Sweep.objects.update_or_create(
        name=sweeps.SWEEP, defaults={"ran_at": ago(last), "steady_since": ago(steady)}
    )


def sweep(*, again: bool = False) -> bool:
    """Sweep, and if asked once more as soon as that is allowed; return whether the worker was lost."""
    sweeps.sweep_runs()
    if again:
        Sweep.objects.update(ran_at=ago(0.95))
        sweeps.sweep_runs()
    return Worker.objects.get().state == WorkerState.LOST


def test_a_silent_worker_is_lost():
    make_worker(heartbeat_at=ago(60))
    swept(last=0.95, steady=60)
    assert sweep()


def test_nobody_is_lost_by_a_first_sweep():
    make_worker(heartbeat_at=ago(60))
    assert not sweep()


def test_after_a_pause_everybody_has_the_time_for_a_heartbeat():
    """The machine slept for an hour: the next sweep, and those right behind it, know nothing yet."""
    make_worker(heartbeat_at=ago(3600))
    swept(last=3600, steady=7200)
    assert not sweep(again=True)
    Sweep.objects.update(ran_at=ago(0.95), steady_since=ago(2.1))
    assert sweep()


def test_a_clock_set_back_does_not_end_the_sweeps():
    make_worker(heartbeat_at=ago(-3600))
    swept(last=-3600, steady=-3000)
    assert not sweep(again=True)
    assert Sweep.objects.get().ran_at <= clock.now()
    # Who has not given another heartbeat by now is gone, whatever time the last one bears.
    Sweep.objects.update(ran_at=ago(0.95), steady_since=ago(2.1))
    assert sweep()


def test_sweeps_keep_their_distance():
    make_run()
    swept(last=0.1, steady=60)
    assert not sweeps.sweep_runs()
