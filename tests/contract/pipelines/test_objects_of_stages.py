"""What the stages of executions hold is told with them (pipelines-storage.md §3)."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.storage import services as storage
from tests.contract.storage.conftest import place

pytestmark = pytest.mark.django_db

__all__ = ["place"]

URL = "/api/v1/executions/"
STEPS = [
    {"name": "a", "command": ["true"]},
    {"name": "b", "command": ["true"], "stage": "deep/er"},
    {"name": "c", "command": ["true"], "stage": "deep/er"},
]


def start(api: Any) -> UUID:
    body = {"name": "p", "id": f"team.{uuid4().hex}", "steps": STEPS}
    pipeline = api.post("/api/v1/pipelines/", body).json()
    return UUID(api.post(f"/api/v1/pipelines/{pipeline['id']}/run", {}).json()["id"])


def put(execution_id: UUID, stage: str, path: str) -> None:
    name = f"{stage}/{path}"
    new = storage.NewObject(name=name, stage=stage, content_type="text/plain")
    uploaded = storage.upload_bytes(b"x", name=name)
    storage.attach(execution_id=execution_id, new=new, uploaded=uploaded)


def test_each_stage_says_how_many_objects_it_holds(api):
    execution_id = start(api)
    for stage, path in [("a", "1"), ("a", "2"), ("deep/er", "1"), ("elsewhere", "1"), ("a", "1")]:
        put(execution_id, stage, path)
    stages = api.get(f"{URL}{execution_id}").json()["stages"]
    assert {one["name"]: one["objects"] for one in stages} == {"a": 2, "b": 1, "c": 1}


def test_a_list_of_many_costs_as_much_as_a_list_of_one(api):
    put(start(api), "a", "1")
    with CaptureQueriesContext(connection) as of_one:
        api.get(URL)
    for number in range(5):
        execution_id = start(api)
        for path in range(number):
            put(execution_id, "a", str(path))
    with CaptureQueriesContext(connection) as of_many:
        listed = api.get(URL).json()["executions"]
    assert sorted(one["stages"][0]["objects"] for one in listed) == [0, 1, 1, 2, 3, 4]
    assert len(of_many) == len(of_one)
