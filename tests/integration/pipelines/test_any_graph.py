"""Any graph, on rows: each step once, after what it needs, in whatever order runs end (pipelines-storage.md §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.pipelines.execution import advancing
from apps.pipelines.models import Execution
from apps.runs.models import Run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db

# Each example makes rows of its own; nothing is shared but the engine.
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def graphs(draw: Callable[..., Any]) -> list[dict[str, Any]]:
    """Draw the steps of a graph without a cycle, in any order; some read what they need, the others only wait."""
    steps: list[dict[str, Any]] = []
    for place in range(draw(st.integers(1, 9))):
        names = [step["name"] for step in steps]
        needs = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        reads = draw(st.lists(st.sampled_from(needs), unique=True)) if needs else []
        inputs = {name: {"$ref": f"steps.{name}.outputs.me"} for name in reads}
        steps.append({"name": f"s{place}", "command": ["true"], "needs": needs, "inputs": inputs})
    return list(draw(st.permutations(steps)))


def needs(step: dict[str, Any]) -> set[str]:
    return {*step["needs"], *step["inputs"]}


class Many:
    """Several executions under way at once, each with what has ended of it."""

    def __init__(self, driver: Any, documents: list[list[dict[str, Any]]]) -> None:
        self.driver = driver
        self.steps = {
            driver.start(document).id: {step["name"]: step for step in document}
            for document in documents
        }
        self.ended: dict[Any, set[str]] = {one: set() for one in self.steps}

    def open(self) -> list[Run]:
        rows = Run.objects.filter(execution_id__in=list(self.steps)).order_by("id")
        return [run for run in rows if not run.is_final]

    def look(self) -> None:
        """Nothing has started before what it needs had ended, nothing twice, and nothing ready is left waiting."""
        for one, steps in self.steps.items():
            begun = [str(run.step) for run in Run.objects.filter(execution_id=one)]
            assert len(begun) == len(set(begun))
            ready = {name for name, step in steps.items() if needs(step) <= self.ended[one]}
            assert set(begun) == ready

    def end(self, run: Run) -> None:
        self.driver.end(run.id, {"me": run.step})
        self.ended[run.execution_id].add(str(run.step))


@FEW
@given(documents=st.lists(graphs(), min_size=1, max_size=3), data=st.data())
def test_each_step_runs_once_after_what_it_needs_whatever_ends_first(documents, data, driver):
    many = Many(driver, documents)
    advancing.advance_all((), due=10)
    many.look()
    for _ in range(100):
        open_runs = many.open()
        if not open_runs:
            break
        # Several may have ended before anybody looks, and nobody says whose.
        chosen = data.draw(st.lists(st.sampled_from(open_runs), unique=True, min_size=1))
        for run in chosen:
            many.end(run)
        advancing.advance_all([run.execution_id for run in chosen], due=0)
        if data.draw(st.booleans()):
            advancing.advance_all(list(many.steps), due=10)
        many.look()
    for one, steps in many.steps.items():
        assert Execution.objects.get(pk=one).status == "completed"
        assert many.ended[one] == set(steps)
        for run in Run.objects.filter(execution_id=one):
            assert run.inputs == {name: name for name in steps[str(run.step)]["inputs"]}


@FEW
@given(document=graphs(), data=st.data(), goes_on=st.booleans())
def test_it_ends_whatever_fails(document, data, goes_on, driver):
    execution = driver.start(document, options={"on_failure": "continue" if goes_on else "stop"})
    steps = {step["name"]: step for step in document}
    failed: set[str] = set()
    for _ in range(100):
        advancing.advance_all([execution.id], due=0)
        open_runs = [run for run in driver.runs(execution) if not run.is_final]
        if not open_runs:
            break
        run = data.draw(st.sampled_from(open_runs))
        if data.draw(st.booleans()):
            failed.add(str(run.step))
        driver.end(run.id, {"me": run.step}, error="boom" if run.step in failed else "")
    execution = Execution.objects.get(pk=execution.id)
    assert execution.status == ("failed" if failed else "completed")
    for name, status in driver.statuses(execution).items():
        assert (status == "failed") == (name in failed)
        if status == "completed":
            assert not needs(steps[name]) & failed
    if goes_on:
        begun = {run.step for run in driver.runs(execution)}
        unreachable: set[str] = set(failed)
        while more := {n for n, step in steps.items() if needs(step) & unreachable} - unreachable:
            unreachable |= more
        assert begun == set(steps) - unreachable | failed
