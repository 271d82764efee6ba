"""runs.md §2: a key limited to prefixes lists what it may see: by op, else by topic, else what it made itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.access.caller import Caller
from apps.access.scopes import ALL
from apps.core import sql
from apps.runs import listing, names
from apps.runs.listing import RunFilter, runs_page
from apps.runs.names import visible_names
from apps.runs.states import RunState
from tests.factories import make_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apps.runs.models import Run

pytestmark = pytest.mark.django_db

NAMES = ["a", "team", "team.", "team.a", "team.b", "teamwork", "z", "ü.x", "\U0001f600"]
PREFIXES = [("team.",), ("team", "team."), ("z", "ü"), ("nobody",), ("teamx",), ("\U0001f600",)]
MINE = "key:22222222-2222-7222-8222-222222222222"


def limited_to(prefixes: Sequence[str]) -> Caller:
    key_id = UUID(MINE.removeprefix("key:"))
    return Caller(name="limited", scopes=ALL, prefixes=tuple(prefixes), key_id=key_id)


@pytest.fixture
def runs() -> list[Run]:
    """Return sixty runs, newest first, of every kind of name, owner and state."""
    chance = random.Random(7)
    return [
        make_run(
            chance.choice([RunState.PENDING, RunState.COMPLETED, RunState.FAILED]),
            op_definition=chance.choice([*NAMES, None, None, None]),
            topic=chance.choice([*NAMES, "", ""]),
            created_by=chance.choice([MINE, *["anonymous"] * 5]),
        )
        for _ in range(60)
    ][::-1]


def seen_by(caller: Caller, run: Run) -> bool:
    name = run.topic if run.op_definition is None else run.op_definition
    return run.created_by == caller.owner or bool(name and caller.sees(name))


@pytest.mark.parametrize(
    ("near", "far", "few"), [(0, 0, 1), (7, 7, 10), (7, 40, 10), (500, 2000, 10)]
)
@pytest.mark.parametrize("prefixes", PREFIXES)
@pytest.mark.parametrize(
    "states", [(), (RunState.FAILED,), (RunState.FAILED, RunState.COMPLETED), (RunState.RUNNING,)]
)
def test_it_pages_through_exactly_its_runs_both_ways(
    runs, prefixes, states, near, far, few, monkeypatch
):
    monkeypatch.setattr(listing, "NEAR", near)
    monkeypatch.setattr(listing, "FAR", far)
    monkeypatch.setattr(names, "FEW", few)
    caller, chosen = limited_to(prefixes), RunFilter(states=states)
    expected = [
        run.id for run in runs if seen_by(caller, run) and (not states or run.state in states)
    ]
    down: list[UUID] = []
    has_more = True
    while has_more:
        after = down[-1] if down else None
        page, has_more = runs_page(caller=caller, chosen=chosen, limit=3, starting_after=after)
        down += [run.id for run in page]
    assert down == expected
    up = expected[-1:]
    has_more = bool(up)
    while has_more:
        page, has_more = runs_page(caller=caller, chosen=chosen, limit=3, ending_before=up[0])
        up = [run.id for run in page] + up
    assert up == expected


def test_other_filters_hold_as_well(runs):
    caller = limited_to(["team."])
    for name in NAMES:
        for chosen, column in (
            (RunFilter(topic=name), "topic"),
            (RunFilter(op_definition=name), "op_definition"),
        ):
            page, _ = runs_page(caller=caller, chosen=chosen, limit=100)
            assert [run.id for run in page] == [
                run.id for run in runs if seen_by(caller, run) and getattr(run, column) == name
            ]


def test_too_many_names_are_walked_through(runs, monkeypatch):
    caller = limited_to(["team"])
    found = runs_page(caller=caller, chosen=RunFilter(), limit=100)
    assert visible_names(caller) is not None
    monkeypatch.setattr(names, "MOST_NAMES", 2)
    assert visible_names(caller) is None
    assert runs_page(caller=caller, chosen=RunFilter(), limit=100) == found


def test_a_page_costs_seven_queries_at_most(runs, monkeypatch):
    monkeypatch.setattr(listing, "NEAR", 2)
    monkeypatch.setattr(listing, "FAR", 3)
    caller = limited_to(["team"])
    newest, *_ = runs_page(caller=caller, chosen=RunFilter(), limit=1)[0]
    with CaptureQueriesContext(connection) as captured:
        runs_page(
            caller=caller,
            chosen=RunFilter(states=(RunState.FAILED, RunState.PENDING)),
            limit=50,
            starting_after=newest.id,
        )
    assert len(captured) <= 7


def test_names_are_found_by_index(runs):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            f"EXPLAIN {sql.statement('runs/visible_names')}",
            {"prefixes": ["team"], "owner": MINE, "most": 10},
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    for index in ("run_by_op", "run_by_ad_hoc_topic", "run_by_owner"):
        assert index in plan
    assert "Seq Scan" not in plan
