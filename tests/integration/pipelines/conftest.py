from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apps.access.auth import ANONYMOUS
from apps.pipelines import services
from apps.pipelines.execution import advancing
from apps.pipelines.models import Execution, Stage
from apps.runs import transitions as run_moves
from apps.runs.models import Run
from apps.runs.states import RunState
from tests.contract.storage.conftest import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

__all__ = ["place"]


@pytest.fixture(autouse=True)
def _no_broker(enqueued: list[Any]) -> None:
    """Record nudges: each test drives the engine itself."""


class Driver:
    """Plays the workers: starts and ends the runs of an execution, and advances it."""

    def start(self, steps: list[dict[str, Any]], **document: Any) -> Execution:
        run = {name: document.pop(name) for name in ("inputs", "tag") if name in document}
        pipeline, _ = services.create_pipeline(
            body={"name": "test", "steps": steps, **document}, caller=ANONYMOUS
        )
        return services.run_pipeline(pipeline_id=pipeline.id, caller=ANONYMOUS, **run)

    def advance(self, execution: Execution) -> Execution:
        advancing.advance_execution(execution.id)
        return Execution.objects.get(pk=execution.id)

    def runs(self, execution: Execution, step: str | None = None) -> list[Run]:
        rows = Run.objects.filter(execution_id=execution.id).order_by("id")
        return list(rows if step is None else rows.filter(step=step))

    def begin(self, run_id: UUID) -> UUID:
        with run_moves.batch() as moves:
            live = moves.lock([run_id])[run_id]
            run_moves.assign(moves, live, worker_id=None, gpu=None)  # type: ignore[arg-type]
            run_moves.start(moves, live)
        return run_id

    def end(self, run_id: UUID, outputs: dict[str, Any] | None = None, error: str = "") -> None:
        with run_moves.batch() as moves:
            live = moves.lock([run_id])[run_id]
            if live.state == RunState.PENDING:
                run_moves.assign(moves, live, worker_id=None, gpu=None)  # type: ignore[arg-type]
                run_moves.start(moves, live)
            if error:
                run_moves.fail(moves, live, error=error)
            else:
                run_moves.complete(moves, live, outputs=outputs or {})

    def end_all(self, execution: Execution, outputs: Callable[[Run], dict[str, Any]]) -> Execution:
        """Complete every run as it comes, until the execution ends."""
        for _ in range(1000):
            execution = self.advance(execution)
            waiting = [run for run in self.runs(execution) if not run.is_final]
            if execution.status != "running" or not waiting:
                return execution
            for run in waiting:
                self.end(run.id, outputs(run))
        raise AssertionError("it does not end")

    def statuses(self, execution: Execution) -> dict[str, str]:
        rows = Stage.objects.filter(execution_id=execution.id).order_by("position")
        return {stage.name: stage.status for stage in rows}

    def stage(self, execution: Execution, name: str) -> Stage:
        return Stage.objects.get(execution_id=execution.id, name=name)


@pytest.fixture
def driver() -> Driver:
    return Driver()
