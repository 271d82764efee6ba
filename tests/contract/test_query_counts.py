"""house.md §12: what each read costs, whatever its length. Change query_counts.json on purpose only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.runs import transitions
from apps.runs.states import EventType, RunState
from tests.cast import client_for
from tests.factories import make_definition, make_run, make_worker

BASELINE = json.loads((Path(__file__).parent / "query_counts.json").read_text("utf-8"))


@pytest.mark.django_db
@pytest.mark.parametrize("path", BASELINE)
def test_a_read_costs_what_it_did(path):
    make_definition("team.op")
    for number in range(12):
        make_definition(f"team.op{number}")
        worker = make_worker(f"worker-{number}")
        make_run(RunState.RUNNING, worker=worker, topic="t")
        run = make_run(RunState.FAILED, topic="t")
    for _ in range(3):
        with transitions.batch() as moves:
            live = transitions.get_live(moves, run.id)
            transitions.reopen(moves, live, reason="again")
            moves.note(live, EventType.INFO, "x")
            transitions.cancel(moves, live, reason="")
    client, url = client_for(), path.format(run=run.id)
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(url)
    assert answer.status_code == 200
    assert len(captured) == BASELINE[path], "\n".join(query["sql"] for query in captured)
