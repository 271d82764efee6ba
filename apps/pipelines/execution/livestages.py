"""Stages of executions under their locks, as moves read and write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from apps.core import sql
from apps.pipelines.states import StageStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

JSON = Any


@dataclass(frozen=True, slots=True)
class RunOfStage:
    """A run of an active stage."""

    id: UUID
    state: str
    attempt: int
    error: str
    has_started: bool
    outputs: JSON


@dataclass(slots=True)
class LiveStage:
    """A stage of a locked execution, as moves read and write it."""

    position: int
    name: str
    status: StageStatus
    error: str
    attempts: int
    run_ids: list[UUID]
    items: list[JSON] | None
    note: JSON
    wake_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    outputs: JSON
    runs: dict[UUID, RunOfStage] = field(default_factory=dict)
    # Whether the stored outputs stay: they are read only where they are needed.
    keeps_outputs: bool = True

    def row(self) -> dict[str, JSON]:
        """Return the columns as `write_stages` takes them."""
        return {
            "position": self.position,
            "status": self.status,
            "outputs": self.outputs,
            "error": self.error,
            "attempts": self.attempts,
            "run_ids": self.run_ids,
            "items": self.items,
            "note": self.note,
            "wake_at": self.wake_at,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
            "keeps_outputs": self.keeps_outputs,
        }


def pending_stage(position: int, name: str) -> LiveStage:
    """Return a stage that nothing has been done for."""
    return LiveStage(
        position=position,
        name=name,
        status=StageStatus.PENDING,
        error="",
        attempts=0,
        run_ids=[],
        items=None,
        note=None,
        wake_at=None,
        started_at=None,
        completed_at=None,
        outputs=None,
        keeps_outputs=False,
    )


def stages_of(
    wanted: Mapping[UUID, Sequence[tuple[str, str]]],
) -> dict[UUID, dict[str, LiveStage]]:
    """Return the stages of executions by name, in the order of their documents; under their locks.

    Each comes with pairs (step, step whose outputs it reads): those outputs are there where they are needed.
    """
    plans: dict[tuple[tuple[str, str], ...], int] = {}
    followed = [plans.setdefault(tuple(reads), len(plans)) for reads in wanted.values()]
    pairs = [(plan, *pair) for reads, plan in plans.items() for pair in reads]
    rows = sql.run_bound(
        "pipelines/read_stages",
        executions=list(wanted),
        plans=followed,
        reading_plans=[plan for plan, _, _ in pairs],
        readers=[reader for _, reader, _ in pairs],
        reads=[read for _, _, read in pairs],
    ).rows
    found: dict[UUID, dict[str, LiveStage]] = {one: {} for one in wanted}
    for row in rows:
        found[row["execution_id"]][row["name"]] = _live_stage(row)
    return found


def _live_stage(row: dict[str, Any]) -> LiveStage:
    runs = [
        RunOfStage(
            id=UUID(run["id"]),
            state=run["state"],
            attempt=run["attempt"],
            error=run["error"],
            has_started=run["started"],
            outputs=run["outputs"],
        )
        for run in _decoded(row["runs"]) or []
    ]
    return LiveStage(
        position=row["position"],
        name=row["name"],
        status=StageStatus(row["status"]),
        error=row["error"],
        attempts=row["attempts"],
        run_ids=list(row["run_ids"]),
        items=_decoded(row["items"]),
        note=_decoded(row["note"]),
        wake_at=row["wake_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        outputs=_decoded(row["outputs"]),
        runs={run.id: run for run in runs},
    )


def _decoded(value: JSON) -> JSON:
    # Django's connection leaves jsonb and json as text.
    return msgspec.json.decode(value) if isinstance(value, str) else value
