"""What pages for people show of pipelines and executions: the admin's and the console's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.template.loader import render_to_string

from apps.access import queries as access
from apps.core import ids, sql
from apps.pipelines import pictures, queries, wire
from apps.pipelines.execution import contents
from apps.pipelines.language import documents, yamltext
from apps.pipelines.models import Schedule
from apps.pipelines.states import ENDED, ExecutionStatus, TriggerState
from apps.pipelines.triggering import conditions, statuses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any
    from uuid import UUID

    from django.utils.safestring import SafeString

    from apps.access.auth import Caller
    from apps.pipelines.models import DeadLetter, Execution, Pipeline, Stage, Trigger, Version
    from apps.pipelines.triggering.statuses import TriggerStatus

# Runs of a stage that its row names; the others are found by their execution.
MOST_RUNS = 20
# What the page of a pipeline shows of its executions and of its dead letters.
MOST_EXECUTIONS = 20
MOST_LETTERS = 20
# Whoever has as many under way need not know how many more.
MOST_COUNTED = 10_000


def started_by(row: Execution, names: Mapping[str, str] | None = None) -> str:
    """Say who or what has started an execution; `names` are those of owners, which are looked up if they aren't given."""
    if row.source_seq is not None:
        return f"message {row.source_seq}"
    if row.scheduled_at is not None:
        return "the clock"
    if row.parent_id is not None:
        return "an execution"
    known = access.names_of([row.created_by]) if names is None else names
    return known.get(row.created_by, row.created_by) or "somebody"


def phase(row: Execution) -> str:
    """Say where it stands."""
    return wire.phase(row)


def listed(rows: Sequence[Execution]) -> list[dict[str, Any]]:
    """Return executions as a list shows them, with how many of their stages have ended; three queries at most."""
    counts = queries.stage_counts([row.id for row in rows])
    names = access.names_of(row.created_by for row in rows)
    return [
        {
            "row": row,
            "phase": wire.phase(row),
            "started_by": started_by(row, names),
            "stages": sum(counts.get(row.id, {}).values()),
            "ended": sum(counts.get(row.id, {}).get(status, 0) for status in ENDED),
        }
        for row in rows
    ]


# --- an execution --------------------------------------------------------------------------------


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


# --- what starts executions ----------------------------------------------------------------------


def counters(trigger: Trigger) -> SafeString:
    """Return what became of a trigger's messages as a table."""
    counted = [(name.replace("_", " "), getattr(trigger, name)) for name in wire.TRIGGER_COUNTERS]
    return render_to_string("pipelines/counters.html", {"counters": counted})


def conditions_of(trigger: Trigger) -> SafeString:
    """Return what holds of a trigger as a table."""
    return render_to_string("pipelines/conditions.html", {"conditions": conditions.listed(trigger)})


@dataclass(frozen=True, slots=True)
class ShownPipeline:
    """A pipeline: one of its versions, what starts it, and what it has started."""

    row: Pipeline
    version: Version
    versions: list[Version]
    trigger: TriggerStatus | None
    schedule: Schedule | None
    letters: list[DeadLetter]
    executions: list[dict[str, Any]]
    # The newest execution of this version that is under way, if there is one, and its stages.
    running: Execution | None
    stages: list[Stage]

    @property
    def graph(self) -> SafeString:
        """Draw what it does, or how far the execution under way is."""
        plan = documents.plan_of(self.version.document)
        return pictures.of_execution(plan, self.stages) if self.stages else pictures.of_plan(plan)

    @property
    def text(self) -> str:
        """Write its document as its author would."""
        return yamltext.dump(wire.document(self.row, self.version))

    @property
    def counters(self) -> SafeString | None:
        """Return what became of its messages."""
        return counters(self.trigger.trigger) if self.trigger else None

    @property
    def conditions(self) -> SafeString | None:
        """Return what holds of its trigger."""
        return conditions_of(self.trigger.trigger) if self.trigger else None


def pipeline(*, pipeline_id: str, version: str | None, caller: Caller) -> ShownPipeline:
    """Return a pipeline with one of its versions, the newest for None. Raises NotFound."""
    row = queries.get_pipeline(pipeline_id=pipeline_id, caller=caller)
    status = statuses.trigger_status(pipeline_id=row.id, caller=caller)
    has_trigger = bool(row.event) or status.trigger.version > 0
    shown = queries.get_version(row, queries.version_number(version))
    executions = queries.newest_executions(row.id, MOST_EXECUTIONS)
    running = next((one for one in executions if _is_of(one, shown)), None)
    return ShownPipeline(
        row=row,
        version=shown,
        versions=queries.versions_of(row),
        trigger=status if has_trigger else None,
        schedule=Schedule.objects.filter(pk=row.id).first(),
        letters=queries.newest_dead_letters(row.id, MOST_LETTERS) if has_trigger else [],
        executions=listed(executions),
        running=running,
        stages=queries.stages_by_execution([running])[running.id] if running else [],
    )


def _is_of(execution: Execution, version: Version) -> bool:
    """Say whether an execution of a version is under way."""
    return (
        execution.pipeline_version == version.number
        and execution.status == ExecutionStatus.RUNNING
        and not execution.is_queued
    )


# --- how things stand ----------------------------------------------------------------------------


def under_way() -> dict[str, int]:
    """Return how many executions have not ended: `running`, `queued`, `interrupted`; MOST_COUNTED at most."""
    rows = sql.run("pipelines/count_executions", most=MOST_COUNTED).rows
    found = {row["status"]: row["executions"] for row in rows}
    queued = sum(row["queued"] for row in rows)
    return {**found, "running": found["running"] - queued, "queued": queued}


def lately(since: datetime) -> dict[str, int]:
    """Return how many of the executions made since have come to what: `made`, and each status. MOST_COUNTED at most."""
    rows = sql.run(
        "pipelines/count_new_executions",
        since=ids.lowest_at(since),
        statuses=list(ExecutionStatus),
        most=MOST_COUNTED,
    ).rows
    found = {row["status"]: row["executions"] for row in rows}
    return {**found, "made": min(sum(found.values()), MOST_COUNTED)}


def behind(*, caller: Caller) -> list[TriggerStatus]:
    """Return the triggers that somebody should look at: they have messages waiting, or don't take any."""
    calm = {TriggerState.LISTENING, TriggerState.STARTING, TriggerState.STOPPED}
    return [
        one
        for one in statuses.trigger_statuses(caller=caller)
        if one.pending or one.state not in calm
    ]
