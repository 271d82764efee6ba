"""What executions cause without publishing it: the events of their runs, of their objects, and of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from apps.pipelines.models import Execution
from apps.runs.models import Run
from apps.topics import queries as topics
from apps.topics.states import RecordKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.topics.queries import Stored


def hops_by_seq(topic: str, records: Sequence[Stored]) -> dict[int, int]:
    """Return how many executions led to those of a topic's records that tell what an execution has caused.

    What steps publish says so itself (`messages.hops_of`); without this, a pipeline that listens to its own objects or
    runs would start itself for ever.
    """
    runs = {
        one.seq: UUID(one.tag.removeprefix("run/"))
        for one in records
        if one.kind == RecordKind.RUN_EVENT and one.tag is not None and one.tag.startswith("run/")
    }
    # Only the service writes there, so the tag can be believed.
    is_ours = topics.is_reserved(topic)
    executions = {
        one.seq: UUID(one.tag.removeprefix("execution/"))
        for one in records
        if is_ours and one.tag is not None and one.tag.startswith("execution/")
    }
    if runs:
        found = Run.objects.filter(pk__in=set(runs.values())).values_list("pk", "execution_id")
        made = {run_id: one for run_id, one in found if one is not None}
        executions |= {seq: made[run_id] for seq, run_id in runs.items() if run_id in made}
    if not executions:
        return {}
    hops = dict(Execution.objects.filter(pk__in=set(executions.values())).values_list("pk", "hops"))
    return {seq: hops[one] + 1 for seq, one in executions.items() if one in hops}
