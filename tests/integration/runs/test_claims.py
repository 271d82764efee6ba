from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection, connections

from apps.core import clock, ids, sql
from apps.runs import scheduling, transitions
from apps.runs.models import Run, RunEvent, Worker
from apps.runs.services import submission
from apps.runs.services.submission import RunSpec
from apps.runs.states import RunState, WorkerState
from tests.asserts import present
from tests.factories import make_run, make_worker

if TYPE_CHECKING:
    from uuid import UUID

S = RunState
pytestmark = pytest.mark.django_db


def claim(worker_id: str = "worker-1", limit: int = 100) -> list[Run]:
    with transitions.batch() as moves:
        worker = scheduling.beat_worker(worker_id)
        assert worker is not None
        held = scheduling.runs_held(worker_id)
        claims = scheduling.claim(moves, worker, held, limit=limit)
    runs = Run.objects.in_bulk([one.run_id for one in claims])
    return [runs[one.run_id] for one in claims]


def test_the_highest_priority_comes_first_then_the_oldest():
    make_worker()
    low, old, new, high = (make_run(priority=p) for p in (1, 5, 5, 9))
    assert claim() == [high, old, new, low]


def test_a_claim_assigns_the_run_under_a_lease():
    make_worker()
    run = make_run()
    (got,) = claim()
    assert (got.id, got.state, got.worker_id) == (run.id, S.ASSIGNED, "worker-1")
    assert len(present(got.lease)) == 32
    assert RunEvent.objects.get(run=run).type == "ASSIGNED"


def test_a_run_is_not_claimed_before_its_time():
    make_worker()
    make_run(scheduled_at=clock.now() + timedelta(hours=1))
    due = make_run(scheduled_at=clock.now() - timedelta(seconds=1))
    assert claim() == [due]


def test_a_worker_gets_only_runs_whose_tags_it_carries():
    make_worker(tags=["gpu", "eu"])
    make_run(tags=["gpu", "us"])
    fits = make_run(tags=["eu"])
    assert claim() == [fits]


def test_a_worker_gets_only_runs_it_can_execute():
    make_worker(executors=["process"])
    make_run(image="busybox")
    fits = make_run(command=["true"])
    assert claim() == [fits]


def test_what_a_worker_holds_is_subtracted():
    make_worker(cpu=4)
    make_run(S.RUNNING, cpu=3, worker_id="worker-1")
    make_run(cpu=2)
    fits = make_run(cpu=1)
    assert claim() == [fits]


def test_video_memory_is_given_from_one_gpu_and_recorded():
    make_worker(gpus=[{"id": 0, "vram_mb": 8000}, {"id": 1, "vram_mb": 24000}])
    make_run(vram_mb=30000)
    small, big = make_run(vram_mb=6000), make_run(vram_mb=20000)
    assert {run.id: run.gpu for run in claim()} == {small.id: 0, big.id: 1}


def test_runs_that_fit_no_gpu_do_not_block_those_behind_them():
    make_worker(gpus=[{"id": 0, "vram_mb": 1000}, {"id": 1, "vram_mb": 24000}])
    for _ in range(5):
        make_run(gpu_id=0, vram_mb=8000, priority=9)
    small = make_run()
    assert claim(limit=1) == [small]


def test_a_slot_limit_holds():
    make_worker(slots=3)
    make_run(S.RUNNING, worker_id="worker-1")
    for _ in range(5):
        make_run()
    assert len(claim()) == 2


def test_a_draining_worker_gets_nothing():
    make_worker(state=WorkerState.DRAINING)
    make_run()
    assert claim() == []


def test_a_lost_worker_is_ready_again_with_its_heartbeat():
    make_worker(state=WorkerState.LOST)
    make_run()
    assert len(claim()) == 1
    assert Worker.objects.get().state == WorkerState.READY


def test_a_big_run_does_not_block_smaller_ones_behind_it():
    make_worker(cpu=4)
    make_run(S.RUNNING, cpu=1, worker_id="worker-1")
    make_run(cpu=4, priority=9)
    small = make_run(cpu=1)
    assert claim() == [small]


def test_a_big_run_that_waits_too_long_holds_back_those_behind_it(settings):
    make_worker(cpu=4)
    make_run(S.RUNNING, cpu=1, worker_id="worker-1")
    long_ago = clock.now() - timedelta(seconds=settings.GYOZA_STARVATION_SECONDS + 1)
    make_run(cpu=4, priority=5, queued_at=long_ago)
    ahead = make_run(cpu=1, priority=6)
    make_run(cpu=1, priority=5)
    make_run(priority=4)
    assert claim() == [ahead]


def test_a_run_too_big_for_this_worker_starves_nobody_on_it(settings):
    make_worker(cpu=4)
    make_run(S.RUNNING, cpu=1, worker_id="worker-1")
    long_ago = clock.now() - timedelta(seconds=settings.GYOZA_STARVATION_SECONDS + 1)
    make_run(cpu=64, queued_at=long_ago)
    small = make_run(cpu=1)
    assert claim() == [small]


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_never_get_the_same_run():
    for name in ("a", "b", "c", "d"):
        make_worker(name, slots=50)
    wanted = {make_run().id for _ in range(100)}
    barrier = threading.Barrier(4)
    got: dict[str, list[UUID]] = {}

    def work(name: str) -> None:
        barrier.wait()
        mine = []
        while claimed := claim(name, limit=7):
            mine += [run.id for run in claimed]
        got[name] = mine
        connections.close_all()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [one for mine in got.values() for one in mine]
    assert len(everything) == len(set(everything))
    # A worker skips what another has locked, so a last round may be needed: nothing is lost by it.
    rest = [run.id for name in got for run in claim(name)]
    assert set(everything) | set(rest) == wanted


def test_a_starving_run_is_looked_for_at_the_front_alone():
    """However many wait behind it: each claim of a worker that is partly busy asks."""
    submission.add_runs(
        requests=[
            RunSpec(command=["true"], priority=number % 7, cpu=cpu)
            for number in range(scheduling.MOST_FRONT + 500)
            for cpu in (1, None)
        ],
        owner="",
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runs_run")
        cursor.execute(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql.statement('runs/find_starving_run')}",
            {
                "waiting_since": clock.now(),
                "executors": ["process", "python"],
                "tags": [],
                "cpu_total": 2,
                "ram_mb_total": 4000,
                "cpu_free": 1,
                "ram_mb_free": 4000,
                "gpu_ids": [],
                "vram_totals": [],
                "vram_frees": [],
                "prefixes": [],
                "owner": "",
                "most": scheduling.MOST_FRONT,
            },
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    (scan,) = [line for line in plan.splitlines() if "run_demanding" in line]
    assert f"rows={scheduling.MOST_FRONT}" in scan
    assert "Sort" not in plan.partition("Subquery Scan")[2]


def test_a_claim_walks_the_index_however_many_wait():
    """Nothing is switched off: the planner must prefer it by itself, with a queue of thousands."""
    submission.add_runs(
        requests=[RunSpec(command=["true"], priority=number % 7) for number in range(3000)],
        owner="",
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE runs_run")
        cursor.execute(
            f"EXPLAIN {sql.statement('runs/claim_candidates')}",
            {
                "now": clock.now(),
                "taken": [ids.uuid7() for _ in range(20)],
                "executors": ["process", "python"],
                "tags": [],
                "cpu": 4,
                "ram_mb": 4000,
                "gpu_ids": [],
                "vram_frees": [],
                "prefixes": [],
                "owner": "",
                "starving_id": None,
                "starving_priority": None,
                "limit": 16,
            },
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using run_claimable" in plan
    assert "Sort" not in plan


def test_a_silent_worker_is_lost_and_its_runs_go_back(settings):
    # Short, because this server may have been started a moment ago, which excuses silence.
    settings.GYOZA_LOST_SECONDS = 0.2
    silent = make_worker("silent", heartbeat_at=clock.now() - timedelta(seconds=11))
    make_worker("alive")
    running = make_run(S.RUNNING, worker=silent)
    assigned = make_run(S.ASSIGNED, worker=silent)
    theirs = make_run(S.RUNNING, worker_id="alive")
    assert scheduling.lose_workers() == ["silent"]
    for run in (running, assigned, theirs):
        run.refresh_from_db()
    assert (running.state, running.current_attempt, running.lease) == (S.PENDING, 2, None)
    assert (assigned.state, assigned.current_attempt) == (S.PENDING, 1)
    assert theirs.state == S.RUNNING
    assert scheduling.lose_workers() == []
