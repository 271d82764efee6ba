"""Rows for tests, with the fields that the constraints demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from apps.access.auth import ANONYMOUS
from apps.core import clock
from apps.definitions.services import deploy_definition
from apps.runs.models import Run, Worker
from apps.runs.states import FINAL, HOLDS_RESOURCES, ExecutorName, RunState, WorkerKind

if TYPE_CHECKING:
    from apps.definitions.models import Definition


def make_worker(worker_id: str = "worker-1", **over: Any) -> Worker:
    fields = {
        "kind": WorkerKind.CELERY,
        "executors": [name.value for name in ExecutorName],
        "slots": 10,
        "cpu": 4,
        "ram_mb": 4000,
        **over,
    }
    return Worker.objects.create(id=worker_id, **fields)


def make_run(state: RunState = RunState.PENDING, **over: Any) -> Run:
    fields: dict[str, Any] = {"state": state, "retry_policy": {}, **over}
    if not {"image", "command", "python"} & fields.keys():
        fields["command"] = ["true"]
    if "executor" not in fields:
        fields["executor"] = (
            ExecutorName.DOCKER
            if fields.get("image")
            else ExecutorName.PYTHON
            if fields.get("python")
            else ExecutorName.PROCESS
        )
    if state in HOLDS_RESOURCES:
        fields.setdefault("lease", uuid4().hex)
        fields.setdefault("assigned_at", clock.now())
        if "worker" not in fields:
            fields["worker"] = Worker.objects.first() or make_worker()
    if state == RunState.RUNNING:
        fields.setdefault("started_at", clock.now())
    if state in FINAL:
        fields.setdefault("finished_at", clock.now())
    return Run.objects.create(**fields)


def make_definition(
    name: str = "team.op", version: str = "1", *, caller: Any = None, **over: Any
) -> Definition:
    members = {"id": name, "version": version, **over}
    if not {"image", "command", "python"} & members.keys():
        members["command"] = ["true"]
    definition, _ = deploy_definition(body=members, caller=caller or ANONYMOUS)
    return definition
