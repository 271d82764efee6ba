"""Which steps are ready, and how an execution ends (pipelines-storage.md §3)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.pipelines.execution.graph import decide, dependents, find_cycle
from apps.pipelines.states import ACTIVE, ENDED, ExecutionStatus, StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

S, E = StageStatus, ExecutionStatus


@st.composite
def graphs(draw: Callable[..., Any]) -> dict[str, tuple[str, ...]]:
    """Draw a graph without a cycle: a step needs only steps of a hidden order before it."""
    size = draw(st.integers(0, 25))
    names = draw(st.permutations([f"s{index}" for index in range(size)]))
    needs = {}
    for place, name in enumerate(names):
        before = names[:place]
        needs[name] = tuple(draw(st.lists(st.sampled_from(before), unique=True))) if before else ()
    order = draw(st.permutations(list(needs)))
    return {name: needs[name] for name in order}


def settle(
    needs: dict[str, tuple[str, ...]],
    data: Any,
    *,
    goes_on: bool = False,
    endings: tuple[StageStatus, ...] = (S.COMPLETED,),
) -> tuple[dict[str, StageStatus], list[str], ExecutionStatus]:
    """Run a graph to its end with steps that end in any order; return statuses, the order of starts, the outcome."""
    now = dict.fromkeys(needs, S.PENDING)
    started = []
    for _ in range(10 * len(needs) + 10):
        decision = decide(needs, now, goes_on=goes_on)
        for name in decision.skip:
            now[name] = S.SKIPPED
        for name in decision.give_up:
            now[name] = S.CANCELLED
        for name in decision.start:
            assert all(now[need] in ENDED for need in needs[name])
            now[name] = S.INITIATED
            started.append(name)
        if decision.outcome is not None:
            return now, started, decision.outcome
        active = [name for name, status in now.items() if status in ACTIVE]
        assert active, "nothing is active, nothing starts, and it has not ended"
        ended = data.draw(st.sampled_from(active))
        now[ended] = data.draw(st.sampled_from(endings))
    raise AssertionError("it did not end")


@given(needs=graphs(), data=st.data())
def test_any_graph_runs_to_its_end_each_step_once_in_order(needs, data):
    statuses, started, outcome = settle(needs, data)
    assert outcome == E.COMPLETED
    assert set(statuses.values()) <= {S.COMPLETED}
    assert sorted(started) == sorted(needs)
    place = {name: index for index, name in enumerate(started)}
    assert all(place[need] < place[name] for name in needs for need in needs[name])


@given(needs=graphs(), data=st.data(), goes_on=st.booleans())
def test_it_always_ends_whatever_fails_or_is_skipped(needs, data, goes_on):
    endings = (S.COMPLETED, S.FAILED, S.SKIPPED)
    statuses, started, outcome = settle(needs, data, goes_on=goes_on, endings=endings)
    assert len(started) == len(set(started))
    failed = S.FAILED in statuses.values()
    assert outcome == (E.FAILED if failed else E.COMPLETED)
    for name in needs:
        needed = {statuses[need] for need in needs[name]}
        if S.FAILED in needed or S.CANCELLED in needed:
            assert statuses[name] == S.CANCELLED
        if needed and needed <= {S.SKIPPED}:
            assert statuses[name] in (S.SKIPPED, S.CANCELLED)
    if goes_on:
        # What depends on no failure was done.
        for name in needs:
            if statuses[name] == S.CANCELLED:
                assert any(statuses[need] in (S.FAILED, S.CANCELLED) for need in needs[name])


def test_after_a_failure_nothing_new_starts():
    needs = {"a": (), "b": (), "c": ("b",)}
    decision = decide(needs, {"a": S.FAILED, "b": S.COMPLETED, "c": S.PENDING}, goes_on=False)
    assert (decision.start, decision.give_up, decision.outcome) == ([], ["c"], E.FAILED)


def test_a_failure_leaves_what_runs_to_its_end():
    needs = {"a": (), "b": ()}
    assert decide(needs, {"a": S.FAILED, "b": S.PROCESSING}, goes_on=False).outcome is None


def test_what_does_not_depend_on_the_failure_goes_on_if_told():
    needs = {"a": (), "b": (), "c": ("b",), "d": ("a",)}
    now = {"a": S.FAILED, "b": S.COMPLETED, "c": S.PENDING, "d": S.PENDING}
    decision = decide(needs, now, goes_on=True)
    assert (decision.start, decision.give_up) == (["c"], ["d"])


def test_a_join_starts_when_one_of_its_branches_was_skipped():
    needs = {"a": (), "b": (), "join": ("a", "b")}
    decision = decide(needs, {"a": S.SKIPPED, "b": S.COMPLETED, "join": S.PENDING}, goes_on=False)
    assert decision.start == ["join"]


def test_a_step_all_of_whose_needs_were_skipped_is_skipped_and_so_is_what_follows():
    needs = {"c": ("b",), "b": ("a",), "a": ()}
    decision = decide(needs, {"a": S.SKIPPED, "b": S.PENDING, "c": S.PENDING}, goes_on=False)
    assert decision.skip == ["b", "c"]
    assert decision.outcome == E.COMPLETED


def test_a_cancelled_execution_starts_nothing_and_ends_when_nothing_is_active():
    needs = {"a": (), "b": ("a",)}
    busy = decide(needs, {"a": S.PROCESSING, "b": S.PENDING}, goes_on=False, is_cancelled=True)
    assert (busy.start, busy.give_up, busy.outcome) == ([], ["b"], None)
    over = decide(needs, {"a": S.CANCELLED, "b": S.CANCELLED}, goes_on=False, is_cancelled=True)
    assert over.outcome == E.CANCELLED


def test_nothing_at_all_is_complete():
    assert decide({}, {}, goes_on=False).outcome == E.COMPLETED


@given(needs=graphs())
def test_it_finds_no_cycle_where_there_is_none(needs):
    assert find_cycle(needs) is None


@given(needs=graphs(), data=st.data())
def test_it_finds_the_cycle_that_an_edge_closes(needs, data):
    chained = [(name, need) for name in needs for need in needs[name]]
    if not chained:
        return
    name, need = data.draw(st.sampled_from(chained))
    closed = {**needs, need: (*needs[need], name)}
    cycle = find_cycle(closed)
    assert cycle is not None
    assert cycle[0] == cycle[-1]
    assert all(after in closed[before] for before, after in itertools.pairwise(cycle))


@pytest.mark.parametrize("name", ["a"])
def test_a_step_that_needs_itself_is_a_cycle(name):
    assert find_cycle({name: (name,)}) == [name, name]


def test_a_chain_longer_than_the_stack_is_no_trouble():
    needs = {f"s{index}": (f"s{index - 1}",) if index else () for index in range(5_000)}
    assert find_cycle(dict(reversed(needs.items()))) is None


def test_dependents_are_found_through_others():
    needs = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    assert dependents(needs, "a") == {"b", "c"}
