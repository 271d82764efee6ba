"""New runs: from nothing to PENDING."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.core import jsonb, sql
from apps.runs.models import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JSON = Any


def insert_runs(rows: Sequence[Mapping[str, JSON]]) -> None:
    """Store runs that have just been made, by column, all of them PENDING, in the surrounding transaction."""
    sql.run_bound("runs/insert_runs", runs=jsonb.encode(rows))


def stored_run(row: Mapping[str, JSON]) -> Run:
    """Return a run that was just stored."""
    run = Run(**row)
    run._state.adding = False
    return run
