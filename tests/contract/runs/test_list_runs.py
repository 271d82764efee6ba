"""runs.md §2: GET /runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock, ids
from apps.runs.listing import _first_id
from apps.runs.models import Run
from apps.runs.states import RunState
from tests.asserts import assert_problem, present
from tests.cast import client_for
from tests.factories import make_run

if TYPE_CHECKING:
    from rest_framework.test import APIClient


def listed(client: APIClient, query: str = "") -> tuple[list[str], bool]:
    answer = client.get(f"/runs{query}")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    return [row["id"] for row in body["data"]], body["has_more"]


def some_ids(*runs: Run) -> list[str]:
    return [str(run.id) for run in runs]


@pytest.fixture
def runs(owner):
    return [
        make_run(RunState.COMPLETED, topic="team.a", op_definition="team.op", image="busybox"),
        make_run(RunState.FAILED, topic="team.a", op_definition="team.op2"),
        make_run(RunState.PENDING, topic="team.b", op_definition="team.op"),
        make_run(RunState.RUNNING, topic="team.a", op_definition="team.op"),
        make_run(RunState.COMPLETED, topic="", op_definition="team.op", execution_id=uuid4()),
    ]


@pytest.mark.django_db
def test_newest_first_without_events(owner, runs):
    client = client_for(owner)
    assert listed(client) == (some_ids(*runs[::-1]), False)
    assert "events" not in client.get("/runs").json()["data"][0]


@pytest.mark.django_db
def test_ten_unless_asked_otherwise(owner):
    for _ in range(11):
        make_run(op_definition="team.op")
    client = client_for(owner)
    assert [len(listed(client)[0]), listed(client)[1]] == [10, True]
    assert [len(listed(client, "?limit=100")[0]), listed(client, "?limit=100")[1]] == [11, False]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("state=COMPLETED", [4, 0]),
        ("status=FAILED", [1]),
        ("state=FAILED&state=COMPLETED", [4, 1, 0]),
        ("state=FAILED&status=RUNNING&state=FAILED", [3, 1]),
        ("topic=team.a", [3, 1, 0]),
        ("topic=team.a&state=COMPLETED", [0]),
        ("topic=team.a&state=COMPLETED&state=RUNNING", [3, 0]),
        ("op_definition=team.op", [4, 3, 2, 0]),
        ("image=busybox", [0]),
        ("topic=nowhere", []),
    ],
)
def test_filters(owner, runs, query, chosen):
    expected = some_ids(*(runs[index] for index in chosen))
    assert listed(client_for(owner), f"?{query}") == (expected, False)


@pytest.mark.django_db
def test_by_execution(owner, runs):
    execution_id = runs[4].execution_id
    assert listed(client_for(owner), f"?execution_id={execution_id}")[0] == some_ids(runs[4])


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "&state=COMPLETED&state=FAILED&state=PENDING&state=RUNNING"])
def test_cursors_walk_both_ways(owner, runs, query):
    client = client_for(owner)
    forward = listed(client, f"?limit=2&starting_after={runs[4].id}{query}")
    assert forward == (some_ids(runs[3], runs[2]), True)
    assert listed(client, f"?limit=2&starting_after={runs[1].id}{query}") == (
        some_ids(runs[0]),
        False,
    )
    back = listed(client, f"?limit=2&ending_before={runs[0].id}{query}")
    assert back == (some_ids(runs[2], runs[1]), True)
    assert listed(client, f"?limit=2&ending_before={runs[3].id}{query}") == (
        some_ids(runs[4]),
        False,
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("created[gte]=1000", [2, 1]),
        ("created[gt]=1000", [2]),
        ("created[lte]=1000", [1, 0]),
        ("created[lt]=1000", [0]),
        ("created[gte]=1000&created[lt]=1000.5", [1]),
        ("created[gt]=99999999999", []),
    ],
)
def test_times_are_exact(owner, query, chosen):
    rows = [
        make_run(
            op_definition="team.op",
            id=_first_id(seconds),
            created_at=datetime.fromtimestamp(seconds, UTC),
        )
        for seconds in (999, 1000, 1001)
    ]
    expected = some_ids(*(rows[index] for index in chosen))
    assert listed(client_for(owner), f"?{query}")[0] == expected


@pytest.mark.django_db
def test_ids_and_times_of_new_runs_agree(owner):
    before = clock.now().timestamp() - 1
    run = make_run(op_definition="team.op")
    client = client_for(owner)
    assert listed(client, f"?created[gte]={before:.3f}")[0] == some_ids(run)
    assert listed(client, f"?created[lte]={before:.3f}")[0] == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.5", "limit"),
        ("state=DONE", "state"),
        ("status=completed", "state"),
        ("starting_after=x", "starting_after"),
        ("created[gte]=yesterday", "created[gte]"),
        ("created[lt]=1e400", "created[lt]"),
        ("execution_id=5", "execution_id"),
    ],
)
def test_it_refuses(owner, query, field):
    assert_problem(client_for(owner).get(f"/runs?{query}"), 400, "invalid_request", field)


@pytest.mark.django_db
def test_an_unknown_cursor_is_refused(owner, stranger, runs):
    client = client_for(owner)
    for name in ("starting_after", "ending_before"):
        answer = client.get(f"/runs?{name}={ids.uuid7()}")
        assert_problem(answer, 400, "invalid_request", name)
    foreign = client_for(stranger).get(f"/runs?starting_after={runs[0].id}")
    assert_problem(foreign, 400, "invalid_request", "starting_after")
    both = client.get(f"/runs?starting_after={runs[0].id}&ending_before={runs[0].id}")
    assert_problem(both, 400, "invalid_request", "ending_before")


@pytest.mark.django_db
def test_a_stranger_sees_none_of_them(stranger, runs):
    assert listed(client_for(stranger)) == ([], False)


@pytest.mark.django_db
def test_a_reader_sees_them(reader, runs):
    assert len(listed(client_for(reader))[0]) == 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query", ["", "&state=PENDING&state=COMPLETED&topic=team.t", "&starting_after={last}"]
)
def test_a_page_costs_the_same_whatever_its_length(owner, query):
    for state in (RunState.PENDING, RunState.COMPLETED):
        for _ in range(30):
            last = make_run(state, topic="team.t", op_definition="team.op")
    client = client_for(owner)
    client.get("/runs")
    counts = []
    for limit in (1, 50):
        with CaptureQueriesContext(connection) as captured:
            client.get(f"/runs?limit={limit}{query.format(last=last.id)}")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("topic=team.5&state=COMPLETED", "run_by_topic_state"),
        ("topic=team.5&state=COMPLETED&state=FAILED", "run_by_topic_state"),
        ("topic=team.5", "run_by_topic"),
        ("state=FAILED", "run_by_state"),
        ("state=FAILED&state=CANCELLED", "run_by_state"),
        ("op_definition=op.7", "run_by_op"),
        ("created[gte]=1000&created[lt]=1200", "runs_run_pkey"),
    ],
)
def test_each_filter_reads_an_index(admin_key, query, index):
    fill_runs(20_000)
    with CaptureQueriesContext(connection) as captured:
        client_for(admin_key).get(f"/runs?{query}")
    statement = captured[-1]["sql"]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert index in plan
    assert "Seq Scan" not in plan


def fill_runs(count: int) -> None:
    """Make runs a second apart, over 100 topics, 50 ops and three states, in one statement."""
    row = make_run(RunState.COMPLETED)
    columns = [present(field.column) for field in Run._meta.concrete_fields]
    over = {
        "id": "(lpad(to_hex(n * 1000::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid",
        "state": "CASE n %% 50 WHEN 0 THEN 'FAILED' WHEN 1 THEN 'CANCELLED' ELSE 'COMPLETED' END",
        "topic": "'team.' || n %% 100",
        "op_definition": "'op.' || n %% 50",
        "created_at": "to_timestamp(n)",
    }
    chosen = ", ".join(over.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO runs_run ({names}) SELECT {chosen} FROM runs_run,"
            " generate_series(1, %s) AS n WHERE id = %s",
            [count, row.id],
        )
        cursor.execute("ANALYZE runs_run")
