"""What pages for people show of executions: the admin's and the console's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.pipelines import contents, documents, pictures, queries, wire
from apps.pipelines.states import ENDED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any
    from uuid import UUID

    from django.utils.safestring import SafeString

    from apps.pipelines.models import Execution, Stage

# Runs of a stage that its row names; the others are found by their execution.
MOST_RUNS = 20


def started_by(row: Execution) -> str:
    """Say who or what has started an execution."""
    if row.source_seq is not None:
        return f"message {row.source_seq}"
    if row.scheduled_at is not None:
        return "the clock"
    return "an execution" if row.parent_id is not None else row.created_by or "somebody"


def phase(row: Execution) -> str:
    """Say where it stands."""
    return wire.phase(row)


def listed(rows: Sequence[Execution]) -> list[dict[str, Any]]:
    """Return executions as a list shows them, with how many of their stages have ended; one query for all."""
    counts = queries.stage_counts([row.id for row in rows])
    return [
        {
            "row": row,
            "phase": wire.phase(row),
            "started_by": started_by(row),
            "stages": sum(counts.get(row.id, {}).values()),
            "ended": sum(counts.get(row.id, {}).get(status, 0) for status in ENDED),
        }
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class ShownStage:
    """A stage as pages show it, with what it has stored and who does it."""

    row: Stage
    objects: int
    folder: str
    waiting_for: str | None
    is_question: bool
    done_by: str | None
    runs: Sequence[tuple[UUID, str]]
    more: int


@dataclass(frozen=True, slots=True)
class Whole:
    """An execution with its stages."""

    row: Execution
    stages: list[Stage]
    objects: dict[str, int]

    @property
    def graph(self) -> SafeString:
        """Draw how far it is."""
        return pictures.of_execution(documents.plan_of(self.row.document), self.stages)

    def questions(self) -> list[tuple[str, str]]:
        """Return the stages that wait for approval, each with what is asked."""
        return [
            (stage.name, f"{stage.name}: {wire.waiting_for(stage)}")
            for stage in self.stages
            if queries.awaits_approval(self.row, stage)
        ]

    def shown(self) -> list[ShownStage]:
        """Return its stages as pages show them; one query."""
        folders = {
            step.name: f"{step.stage}/" for step in documents.plan_of(self.row.document).steps
        }
        states = queries.run_states([run for one in self.stages for run in one.run_ids[:MOST_RUNS]])
        return [self._shown(one, folders[one.name], states) for one in self.stages]

    def _shown(self, stage: Stage, folder: str, states: dict[UUID, str]) -> ShownStage:
        by = contents.done_by(stage)
        return ShownStage(
            row=stage,
            objects=self.objects.get(stage.name, 0),
            folder=folder,
            waiting_for=wire.waiting_for(stage),
            is_question=queries.awaits_approval(self.row, stage),
            done_by=None if by == str(stage.execution_id) else by,
            runs=[(run, states.get(run, "")) for run in stage.run_ids[:MOST_RUNS]],
            more=max(len(stage.run_ids) - MOST_RUNS, 0),
        )


def whole(row: Execution) -> Whole:
    """Return an execution with its stages; two queries."""
    [(_, stages, objects)] = contents.whole([row])
    return Whole(row, stages, objects)
