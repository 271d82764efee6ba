from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from apps.runs.placement import Capacity, Demand, place


def run(number: int, **needs: int) -> Demand:
    return Demand(UUID(int=number), **needs)


def taken(placed) -> list[int]:
    return [one.run_id.int for one in placed]


def test_it_takes_runs_in_order_until_the_slots_are_full():
    placed = place([run(1), run(2), run(3)], Capacity(slots=2, cpu=1, ram_mb=0))
    assert taken(placed) == [1, 2]


def test_a_run_that_does_not_fit_does_not_block_those_behind_it():
    placed = place([run(1, cpu=8), run(2, cpu=1)], Capacity(slots=9, cpu=2, ram_mb=0))
    assert taken(placed) == [2]


def test_runs_that_fit_alone_but_not_together_are_taken_one_at_a_time():
    placed = place([run(1, ram_mb=600), run(2, ram_mb=600)], Capacity(9, 4, 1000))
    assert taken(placed) == [1]


def test_video_memory_must_fit_on_one_gpu():
    free = Capacity(9, 4, 1000, {0: 8000, 1: 8000})
    assert taken(place([run(1, vram_mb=12000)], free)) == []


def test_the_fullest_gpu_that_still_holds_the_run_is_chosen():
    free = Capacity(9, 4, 1000, {0: 24000, 1: 8000})
    (placed,) = place([run(1, vram_mb=6000)], free)
    assert placed.gpu == 1
    assert free.vram_mb == {0: 24000, 1: 2000}


def test_a_named_gpu_is_the_one_that_is_given():
    free = Capacity(9, 4, 1000, {0: 24000, 1: 8000})
    (placed,) = place([run(1, vram_mb=6000, gpu_id=0)], free)
    assert placed.gpu == 0


def test_a_run_that_names_no_gpu_gets_none():
    (placed,) = place([run(1)], Capacity(9, 4, 1000, {0: 24000}))
    assert placed.gpu is None


def test_a_named_gpu_that_is_not_there_fits_nowhere():
    assert place([run(1, gpu_id=7)], Capacity(9, 4, 1000, {0: 24000})) == []


def test_held_runs_are_subtracted():
    total = Capacity(4, 4, 1000, {0: 10000})
    free = total.minus([(run(1, cpu=3, ram_mb=400, vram_mb=9000), 0)])
    assert (free.slots, free.cpu, free.ram_mb, free.vram_mb) == (3, 1, 600, {0: 1000})
    assert total.cpu == 4


needs = st.none() | st.integers(0, 20)


@given(
    st.lists(st.tuples(needs, needs, needs), max_size=30),
    st.integers(0, 10),
    st.integers(0, 40),
    st.lists(st.integers(0, 30), max_size=3),
)
def test_a_worker_never_gives_more_than_it_has(wanted, slots, total, gpus):
    free = Capacity(slots, total, total, dict(enumerate(gpus)))
    demands = [
        Demand(UUID(int=n), cpu=c, ram_mb=r, vram_mb=v) for n, (c, r, v) in enumerate(wanted)
    ]
    placed = place(demands, free)
    assert len(placed) <= slots
    assert free.cpu >= 0
    assert free.ram_mb >= 0
    assert all(left >= 0 for left in free.vram_mb.values())
    left_out = {d.run_id for d in demands} - {p.run_id for p in placed}
    # Whatever was left out does not fit into what is left.
    assert not [d for d in demands if d.run_id in left_out and free.holds(d)]
