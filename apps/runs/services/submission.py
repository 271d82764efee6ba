"""Runs are made (runs.md §2)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from django.db import transaction

from apps.core import clock, ids
from apps.core.queue import nudge_on_commit
from apps.runs import transitions
from apps.runs.backoff import DEFAULT_POLICY
from apps.runs.creation import insert_runs, stored_run
from apps.runs.live import clean as clean  # what runs keep of a text, for other apps, too
from apps.runs.models import Run, Worker
from apps.runs.scheduling import CLAIM_TASK
from apps.runs.states import EventType, ExecutorName, WorkerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.definitions.models import Definition

JSON = Any


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be made, validated: everything is copied into the run."""

    image: str | None = None
    command: list[str] | None = None
    python: str | None = None
    env: dict[str, str] = {}
    inputs: dict[str, JSON] = {}
    output_specs: dict[str, JSON] = {}
    op_definition: str | None = None
    op_version: str | None = None
    cpu: int | None = None
    ram_mb: int | None = None
    vram_mb: int | None = None
    gpu_id: int | None = None
    tags: list[str] = []
    retry_policy: dict[str, JSON] = msgspec.field(default_factory=DEFAULT_POLICY.copy)
    topic: str = ""
    attributes: dict[str, JSON] = {}
    timeout_s: float | None = 3600
    priority: int = 5
    metadata: dict[str, JSON] = {}
    scheduled_at: datetime | None = None
    execution_id: UUID | None = None
    step: str | None = None
    # What its files become objects of (pipelines-storage.md §4).
    stage: str | None = None

    @property
    def executor(self) -> ExecutorName:
        if self.image is not None:
            return ExecutorName.DOCKER
        return ExecutorName.PROCESS if self.python is None else ExecutorName.PYTHON


def spec_of(definition: Definition) -> RunSpec:
    """Return a run of a definition as the definition alone says it, without inputs."""
    needs, delivery = definition.constraints, definition.event_delivery
    return RunSpec(
        image=definition.image,
        command=definition.command,
        python=definition.python,
        env=definition.env,
        output_specs=definition.output_specs,
        op_definition=definition.name,
        op_version=definition.version,
        cpu=needs["cpu"],
        ram_mb=needs["ram_mb"],
        vram_mb=needs["vram_mb"],
        gpu_id=needs["gpu_id"],
        tags=needs["tags"],
        retry_policy=definition.retry_policy,
        topic=delivery["topic"],
        attributes=delivery["attributes"],
        timeout_s=definition.timeout_s,
    )


def create_runs(*, requests: Sequence[RunSpec], owner: str) -> list[Run]:
    """Do as `add_runs`, and return the runs."""
    rows = _new_rows(requests, owner)
    _store(rows)
    return [stored_run(row) for row in rows]


def add_runs(*, requests: Sequence[RunSpec], owner: str) -> list[UUID]:
    """Store new PENDING runs, all or none, and wake the workers once they are committed; return their ids.

    `owner` is whom they belong to: `Caller.owner`.
    """
    rows = _new_rows(requests, owner)
    _store(rows)
    return [row["id"] for row in rows]


def _new_rows(requests: Sequence[RunSpec], owner: str) -> list[dict[str, JSON]]:
    now = clock.now()
    return [
        {
            **msgspec.structs.asdict(spec),
            "id": ids.uuid7(),
            "executor": spec.executor,
            "created_by": owner,
            "created_at": now,
            "updated_at": now,
            "queued_at": now,
        }
        for spec in requests
    ]


def _store(rows: Sequence[dict[str, JSON]]) -> None:
    # Without a savepoint of its own: a caller's transaction fails as a whole.
    with transaction.atomic(savepoint=False):
        insert_runs(rows)
        containers = [row["id"] for row in rows if row["executor"] == ExecutorName.DOCKER]
        if containers and not _offered(ExecutorName.DOCKER):
            with transitions.batch() as moves:
                for live in moves.lock(containers).values():
                    moves.note(live, EventType.INFO, "waiting: no worker offers containers")
        nudge_on_commit(CLAIM_TASK)


def _offered(executor: ExecutorName) -> bool:
    return (
        Worker.objects.exclude(state=WorkerState.LOST)
        .filter(executors__contains=[executor.value])
        .exists()
    )
