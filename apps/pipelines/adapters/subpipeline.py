from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from apps.access.auth import Caller
from apps.pipelines import queries
from apps.pipelines.adapters.base import (
    Adapter,
    AdapterFailed,
    Call,
    Done,
    Waits,
    optional,
    required,
)
from apps.pipelines.execution import starting
from apps.pipelines.models import Execution
from apps.pipelines.states import FINAL, ExecutionStatus

# A pipeline that starts itself would go on for ever.
MOST_GENERATIONS = 16


class SubPipeline(Adapter):
    """Starts an execution of another pipeline and, unless told otherwise, waits for its end."""

    name = "pipeline"
    inputs: ClassVar = {
        "pipeline_id": required("string"),
        "inputs": optional("object"),
        "version": optional("any", description="A number; the newest without it."),
        "wait": optional("bool", default=True),
    }

    def perform(self, call: Call) -> Done | Waits:
        """Start it, or look whether it has ended."""
        if call.note is None:
            child = self._start(call)
            if not call.inputs["wait"]:
                return Done({"execution_id": str(child.id), "status": child.status, "outputs": {}})
            return Waits({"execution_id": str(child.id)})
        found = Execution.objects.filter(pk=UUID(call.note["execution_id"])).first()
        if found is None:
            raise AdapterFailed(f"the execution {call.note['execution_id']} is gone")
        if found.status not in FINAL:
            return Waits(call.note)
        if found.status != ExecutionStatus.COMPLETED:
            why = (found.error_info or {}).get("message", "")
            raise AdapterFailed(f"the execution {found.id} {found.status}: {why}")
        return Done(
            {"execution_id": str(found.id), "status": found.status, "outputs": found.outputs}
        )

    def _start(self, call: Call) -> Execution:
        parent = call.execution
        if parent.hops + 1 > MOST_GENERATIONS:
            raise AdapterFailed(f"pipelines start each other more than {MOST_GENERATIONS} deep")
        maker = Caller(name="pipeline", scopes=frozenset(), prefixes=tuple(parent.prefixes))
        pipeline = queries.get_pipeline(pipeline_id=call.inputs["pipeline_id"], caller=maker)
        version = queries.get_version(pipeline, queries.version_number(call.inputs["version"]))
        return starting.start(
            starting.Start(
                pipeline_id=pipeline.id,
                version=version.number,
                document=version.document,
                created_by=parent.created_by,
                prefixes=tuple(parent.prefixes),
                inputs=call.inputs["inputs"] or {},
                hops=parent.hops + 1,
                parent_id=parent.id,
                parent_stage=call.step,
                correlation_id=parent.root_correlation_id,
            )
        )
