"""runs.md §2: DELETE /definitions/{name}?version=."""

from __future__ import annotations

import pytest

from apps.access.models import AuditEntry
from apps.definitions.models import Definition
from apps.runs.models import Run
from tests.asserts import assert_problem
from tests.cast import client_for, make_key
from tests.factories import make_definition


@pytest.mark.django_db
def test_one_version_or_all(owner):
    for version in ("1", "2", "3"):
        make_definition("team.op", version)
    client = client_for(owner)
    assert client.delete("/definitions/team.op?version=2").json() == {"deleted": 1}
    assert client.delete("/definitions/team.op").json() == {"deleted": 2}
    assert client.delete("/definitions/team.op").json() == {"deleted": 0}
    assert AuditEntry.objects.filter(action="definition.delete").count() == 2


@pytest.mark.django_db
def test_runs_keep_their_copies(owner):
    make_definition("team.op", command=["echo", "1"])
    client = client_for(owner)
    run = client.post("/definitions/team.op/runs", {}, format="json").json()
    client.delete("/definitions/team.op")
    assert Run.objects.get(pk=run["id"]).command == ["echo", "1"]
    assert client.get(f"/runs/{run['id']}").json()["op_definition"] == "team.op"


@pytest.mark.django_db
def test_a_reader_may_not(reader):
    make_definition("team.op")
    assert_problem(client_for(reader).delete("/definitions/team.op"), 403, "forbidden")


@pytest.mark.django_db
def test_it_needs_the_scope_delete(db):
    make_definition("team.op")
    client = client_for(make_key("deployer", "read+write+admin"))
    assert_problem(client.delete("/definitions/team.op"), 403, "forbidden")


@pytest.mark.django_db
def test_a_stranger_deletes_nothing(stranger):
    make_definition("team.op")
    assert client_for(stranger).delete("/definitions/team.op").json() == {"deleted": 0}
    assert Definition.objects.count() == 1
