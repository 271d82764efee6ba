"""The statements of lists use the indexes that their headers name, however many objects there are."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from apps.core import clock, sql
from benchmarks.storage_list_100k import FILL

pytestmark = pytest.mark.django_db(transaction=True)

NOTHING = {"stage": None, "extensions": None}
PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "list_objects": (
        {"low": "flat/", "high": "flat0", "offset": 9000, "limit": 100},
        "object_once_per_name",
    ),
    "count_objects": ({"low": "flat/00", "high": "flat/01"}, "object_once_per_name"),
    "list_folders": ({"low": "deep/", "high": "deep0"}, "object_by_folder"),
    "list_in_folder": (
        {"folder": "flat/", "low": "flat/", "high": "flat0", "offset": 9000, "limit": 100},
        "object_by_folder",
    ),
    "count_in_folder": (
        {"folder": "flat/", "low": "flat/00", "high": "flat/01"},
        "object_by_folder",
    ),
}


@pytest.fixture
def filled(opened):
    """Return the id of an execution with many objects."""
    execution = opened()
    for one in (opened(), execution):
        with connection.cursor() as cursor:
            cursor.execute(FILL, {"space": one, "objects": 10_000})
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE storage_object")
    return UUID(execution)


def explained(name, **params) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + sql.statement(f"storage/{name}"), params
        )
        return "\n".join(row[0] for row in cursor.fetchall())


def test_no_list_reads_what_it_does_not_show(filled):
    for name, (params, index) in PLANS.items():
        plan = explained(name, space_id=filled, **NOTHING, **params)
        assert f"using {index}" in plan, f"{name}\n{plan}"
        assert "Seq Scan" not in plan, f"{name}\n{plan}"
        assert "Sort" not in plan or name == "list_folders", f"{name}\n{plan}"
        if name.startswith("count"):
            assert "Index Only Scan" in plan, f"{name}\n{plan}"


def test_a_folder_costs_one_look_up(filled):
    plan = explained("list_folders", space_id=filled, low="deep/", high="deep0", **NOTHING)
    # A hundred folders of a hundred objects each.
    assert "rows=100" in plan
    assert "loops=100" in plan
    assert "rows=10000" not in plan


def test_writes_find_what_they_replace_by_index(filled):
    names = [f"flat/{number:06}" for number in range(5)]
    plan = explained("find_objects", space_ids=[filled] * 5, names=names)
    assert "using object_once_per_name" in plan, plan
    assert "Seq Scan" not in plan, plan


def test_a_change_touches_only_the_rows_it_is_about(filled):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO storage_leftover (blob, due_at)"
            " SELECT n::text, now() FROM generate_series(1, 10000) n"
        )
        cursor.execute("ANALYZE storage_leftover")
    plan = explained(
        "change_objects",
        # A blob that isn't listed: nothing is written.
        wanted=json.dumps([{"id": str(uuid4()), "space_id": str(filled), "blob": "none"}]),
        removed=[],
        now=clock.now(),
        now_ms=0,
    )
    assert "using storage_leftover_pkey" in plan, plan
    assert not re.search("Seq Scan on (storage_object|storage_leftover)", plan), plan
    plan = explained("unlist_blobs", blobs=["18", "19"])
    assert "using storage_leftover_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan
