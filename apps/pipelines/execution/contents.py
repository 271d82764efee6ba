"""What executions have stored: how many objects each of their stages, and where those of a replay are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.pipelines import queries
from apps.pipelines.language import documents
from apps.pipelines.models import Stage
from apps.storage import queries as storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apps.pipelines.execution.liveexecutions import LiveExecution
    from apps.pipelines.models import Execution

# In the note of a stage that a replay has not done again: the execution that has done it.
DONE_BY = "done_by"


def whole(executions: Sequence[Execution]) -> list[tuple[Execution, list[Stage], dict[str, int]]]:
    """Return executions with their stages and how many objects each step's stage holds; two queries for all of them.

    Steps that write to one stage have the same objects.
    """
    stages = queries.stages_by_execution(executions)
    counts = storage.counts_by_stage(list(stages))
    return [(row, stages[row.id], _objects_by_step(row, counts.get(row.id))) for row in executions]


def _objects_by_step(execution: Execution, by_stage: Mapping[str, int] | None) -> dict[str, int]:
    if not by_stage:
        return {}
    steps = documents.plan_of(execution.document).steps
    return {step.name: by_stage.get(step.stage, 0) for step in steps}


def done_by(stage: Stage) -> str:
    """Return the execution that has done a stage, by id: another one than its own if a replay has taken it over."""
    earlier = stage.note.get(DONE_BY) if isinstance(stage.note, dict) else None
    return str(earlier or stage.execution_id)


def earlier_key(execution: Execution | LiveExecution, key: str) -> str | None:
    """Return where an object of a stage is that a replay has taken over; None if it is not of such a stage."""
    named, _, name = key.partition("/")
    if named not in {str(execution.id), execution.tag}:
        return None
    taken_over = Stage.objects.filter(execution_id=execution.id, note__has_key=DONE_BY)
    by_step = {stage.name: done_by(stage) for stage in taken_over}
    for step in documents.plan_of(execution.document).steps:
        if step.name in by_step and name.startswith(f"{step.stage}/"):
            return f"{by_step[step.name]}/{name}"
    return None
