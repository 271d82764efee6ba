"""A new run is stored as the model describes it: every column, whatever is added later."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.access.auth import ANONYMOUS
from apps.core import clock, ids
from apps.runs.models import Run
from apps.runs.services.submission import RunSpec, create_runs

pytestmark = pytest.mark.django_db

PLAIN = RunSpec(command=["true"])
FULL = RunSpec(
    image="busybox",
    command=["echo", "it's \\ {a,b}", ""],
    env={"A": "ü", "B": ""},
    inputs={"n": 2**63 - 1, "f": 0.1, "deep": [{"x": None}], "text": "\u2028\\u0041"},
    output_specs={"rows": {"type": "int"}},
    op_definition="team.op",
    op_version="1",
    cpu=2,
    ram_mb=10,
    vram_mb=5,
    gpu_id=1,
    tags=["a", "b,c"],
    retry_policy={"max_attempts": 2},
    topic="t",
    attributes={"a": [1]},
    timeout_s=0.5,
    priority=-1000,
    metadata={"m": {}},
    scheduled_at=clock.now() + timedelta(hours=1),
    execution_id=ids.uuid7(),
    step="s",
)


@pytest.mark.parametrize("spec", [PLAIN, FULL], ids=["plain", "full"])
def test_what_is_stored_is_what_was_made(spec, enqueued):
    made, other = create_runs(requests=[spec, PLAIN], owner=ANONYMOUS.owner)
    # What it says of containers that nobody offers is an event of the run's.
    later = {"event_count", "updated_at"}
    stored = Run.objects.get(pk=made.pk)
    for field in Run._meta.concrete_fields:
        if field.attname not in later:
            assert getattr(stored, field.attname) == getattr(made, field.attname), field.name
    assert Run.objects.filter(pk=other.pk).exists()


def test_a_made_run_knows_that_it_is_stored(enqueued):
    [made] = create_runs(requests=[PLAIN], owner=ANONYMOUS.owner)
    made.refresh_from_db()
    made.save(update_fields=["priority"])
    assert Run.objects.count() == 1
