"""What pages for people show of runs: the admin's and the console's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.template.loader import render_to_string

from apps.core import clock, ids, sql
from apps.runs import queries
from apps.runs.states import RunState

if TYPE_CHECKING:
    from datetime import datetime

    from django.utils.safestring import SafeString

    from apps.runs.listing import ListedRun
    from apps.runs.models import Run

# The newest events of a timeline; the stream and the API have all.
MOST_EVENTS = 200
# Whoever has as many under way need not know how many more.
MOST_COUNTED = 10_000


def work_of(run: Run | ListedRun) -> str:
    """Say in a few words what a run runs."""
    if run.op_definition:
        return "@".join(part for part in (run.op_definition, run.op_version) if part)
    return run.image or run.python or " ".join(run.command or ())


def timeline(run: Run) -> SafeString:
    """Return the events of the live attempt as a table; one query."""
    events = queries.timeline(run, attempt=run.current_attempt)[-MOST_EVENTS:]
    rows = [
        (event, json.dumps(event.payload, ensure_ascii=False) if event.payload else "")
        for event in events
    ]
    return render_to_string("runs/timeline.html", {"rows": rows})


def attempts(run: Run) -> SafeString:
    """Return all attempts as a table; two queries."""
    return render_to_string("runs/attempts.html", {"attempts": queries.attempts(run)})


def lately(since: datetime) -> dict[str, int]:
    """Return how many of the runs made since have come to what: `made`, and each state in lower case. MOST_COUNTED at most."""
    rows = sql.run(
        "runs/count_new_runs", since=ids.lowest_at(since), states=list(RunState), most=MOST_COUNTED
    ).rows
    found = {row["state"].lower(): row["runs"] for row in rows}
    return {**found, "made": min(sum(found.values()), MOST_COUNTED)}


def under_way() -> dict[str, int]:
    """Return how many runs have not ended, by state in lower case; `delayed` ones are pending, too. MOST_COUNTED at most."""
    rows = sql.run("runs/count_runs", now=clock.now(), most=MOST_COUNTED).rows
    return {row["state"].lower(): row["runs"] for row in rows}
